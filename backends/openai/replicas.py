"""Replicas of one model: selection of the server for a request, and back-off from unreachable servers."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 30.0
"""Seconds for which an unreachable replica is skipped."""


@dataclass(slots=True, eq=False)
class Replica:
    """One server. While it cannot be reached, it is skipped for pauses that double each time."""

    url: str
    in_flight: int = 0
    """Requests that run."""
    failures: int = 0
    """Consecutive attempts that could not reach it."""
    skipped_until: float = 0.0
    """Time on the clock from which it is tried again."""


class Replicas:
    """Selection that keeps a prompt on one replica, which caches its prefix, as long as that can be reached.

    Rendezvous hashing (Thaler and Ravishankar, 1998) orders the replicas by prompt. If a replica is lost, only its
    prompts move, to the less busy of the next two in the order. The first request after its pause tries it again;
    there is no background check.
    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.all = tuple(Replica(url) for url in urls)
        self._clock = clock

    def choose(self, affinity: bytes, avoid: Replica | None = None) -> Replica:
        """Return the replica for a prompt. `avoid` just failed, and is returned only if there is no other."""
        now = self._clock()
        first, *others = sorted(self.all, key=lambda one: _rank(affinity, one), reverse=True)
        if first is not avoid and first.skipped_until <= now:
            return first
        available = [one for one in others if one is not avoid and one.skipped_until <= now]
        if available:
            return min(available[:2], key=lambda one: one.in_flight)
        if avoid is not None and avoid.skipped_until <= now:
            return avoid
        return min(self.all, key=lambda one: one.skipped_until)

    def has_alternative(self, failed: Replica) -> bool:
        """Return True if a replica other than `failed` can be tried at once."""
        now = self._clock()
        return any(one is not failed and one.skipped_until <= now for one in self.all)

    def mark_unreachable(self, replica: Replica) -> None:
        """Skip a replica for a pause."""
        pause = min(_MAX_PAUSE, _FIRST_PAUSE * 2.0 ** min(replica.failures, 10))
        replica.failures += 1
        replica.skipped_until = self._clock() + pause

    def mark_reachable(self, replica: Replica) -> None:
        """End the pauses of a replica that responded, with any status."""
        replica.failures, replica.skipped_until = 0, 0.0


def _rank(affinity: bytes, replica: Replica) -> bytes:
    return hashlib.blake2b(affinity, key=hashlib.blake2b(replica.url.encode()).digest(), digest_size=8).digest()
