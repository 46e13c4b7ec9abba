"""What goes wrong between a client and its server, drawn by chance."""

import os
import random
from dataclasses import dataclass, field

FAULTS = (
    "429", "429", "500", "502", "503", "reset", "short", "cut", "garbage", "binary", "error", "tokens", "prompt",
    "slow", "undone", "unpriced",
)  # fmt: skip
RATE = 0.15  # of the requests


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer, after so many events."""

    kind: str
    after: int = 0
    retry_after: str | None = None


@dataclass
class Chance:
    """Faults drawn by the number of a request, so that a seed gives the same ones in whatever order they are asked."""

    seed: int
    rate: float = RATE
    drawn: dict[str, int] = field(default_factory=dict)

    def __call__(self, number: int) -> Fault | None:
        dice = random.Random(f"{self.seed}:{number}")
        if dice.random() >= self.rate:
            return None
        kind = dice.choice(FAULTS)
        self.drawn[kind] = self.drawn.get(kind, 0) + 1
        return Fault(kind, after=dice.choice((0, 0, 1, 3, 6)), retry_after=dice.choice((None, "0", "0.05")))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
