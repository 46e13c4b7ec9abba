"""Faults between a client and its server, and a random choice of them."""

import os
import random
from collections import Counter
from dataclasses import dataclass, field

FAULTS = (
    *("429", "429", "500", "502", "503"),
    *("reset", "short", "cut", "garbage", "binary", "error", "tokens", "prompt", "slow", "undone", "unpriced"),
)
"""Kinds of faults; "429" is twice as frequent as the others."""


@dataclass(frozen=True)
class Fault:
    """Fault of one response."""

    kind: str
    after: int = 0
    """Number of events before it."""
    retry_after: str | None = None


@dataclass
class RandomFaults:
    """Random faults. The number of a request decides, so that a seed gives the same ones in any order of requests."""

    seed: int
    rate: float = 0.15
    counts: Counter[str] = field(default_factory=Counter)
    """Number of faults of each kind."""

    def __call__(self, number: int) -> Fault | None:
        rng = random.Random(f"{self.seed}:{number}")
        if rng.random() >= self.rate:
            return None
        kind = rng.choice(FAULTS)
        self.counts[kind] += 1
        return Fault(kind, after=rng.choice((0, 0, 1, 3, 6)), retry_after=rng.choice((None, "0", "0.05")))


def open_descriptors() -> int:
    """Return the number of this process's open file descriptors."""
    return len(os.listdir("/proc/self/fd"))
