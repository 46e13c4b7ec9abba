"""Settings of a reward model."""

from dataclasses import dataclass
from typing import Literal

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """Device, type, batch size and reduction of a reward model."""

    reduce: Literal["last", "min", "product"] = "last"
    """Reduction of a process reward model's step scores: the last, the minimum or the product."""
    batch: int = 16
    """Most paths scored in one forward pass."""
    device: str | None = None
    """cpu, cuda, ...; None selects a GPU if there is one."""
    dtype: Literal["float64", "float32", "bfloat16", "float16"] | None = None
    """Data type; None selects the model's own, but float32 on a processor without fast bfloat16."""

    def __post_init__(self) -> None:
        known = ("last", "min", "product")
        require(self.reduce in known, "reduce", f"is {self.reduce!r}", f"use one of {', '.join(known)}")
        require(self.batch >= 1, "batch", f"is {self.batch}", "use at least 1")
