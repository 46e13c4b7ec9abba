"""Several servers with one model: which of them a request goes to."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds


@dataclass(slots=True, eq=False)
class Replica:
    """A server. One that nobody answers at is left alone for a while, twice as long each time."""

    url: str
    busy: int = 0
    """Requests under way."""
    failures: int = 0
    """Attempts in a row that could not reach it."""
    until: float = field(default=0.0)
    """When it may be tried again, on the clock."""


class Replicas:
    """Sends what grows from one prompt to one replica, which holds that prompt's prefix, while it can be reached.

    Rendezvous hashing (Thaler and Ravishankar, 1998) orders the replicas by prompt: when one is lost, only its prompts
    go elsewhere, to the less busy of the next two in the order. What is down is tried again by the first request after
    its pause; no task of its own checks it.
    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.all = tuple(Replica(url) for url in urls)
        self._clock = clock

    def choose(self, affinity: bytes, avoid: Replica | None = None) -> Replica:
        """The replica for a prompt; `avoid` is one that just failed, and is taken only where there is no other."""
        now = self._clock()
        first, *others = sorted(self.all, key=lambda one: _rank(affinity, one), reverse=True)
        if first is not avoid and first.until <= now:
            return first
        up = [one for one in others if one is not avoid and one.until <= now]
        if up:
            return min(up[:2], key=lambda one: one.busy)
        if avoid is not None and avoid.until <= now:
            return avoid
        return min(self.all, key=lambda one: one.until)

    def elsewhere(self, failed: Replica) -> bool:
        """Whether another one may be tried at once."""
        now = self._clock()
        return any(one is not failed and one.until <= now for one in self.all)

    def failed(self, replica: Replica) -> None:
        """Nobody answered there."""
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(replica.failures, 10))
        replica.failures += 1
        replica.until = self._clock() + pause

    def worked(self, replica: Replica) -> None:
        """It answered, whatever it said."""
        replica.failures, replica.until = 0, 0.0


def _rank(affinity: bytes, replica: Replica) -> bytes:
    return hashlib.blake2b(affinity, key=hashlib.blake2b(replica.url.encode()).digest(), digest_size=8).digest()
