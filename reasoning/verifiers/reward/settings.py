"""How a reward model is run and read."""

from dataclasses import dataclass
from typing import Literal

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """Settings of a reward model."""

    reduce: Literal["last", "min", "product"] = "last"
    """How a process reward model's scores of the steps make one: that of the last step, the least, or their product."""
    batch: int = 16
    """Most paths that are scored in one forward pass."""
    device: str | None = None
    """cpu, cuda, ...; None: a GPU if there is one."""
    dtype: Literal["float64", "float32", "bfloat16", "float16"] | None = None
    """The type it is computed in; None: the model's own, but float32 on a processor without fast bfloat16."""

    def __post_init__(self) -> None:
        known = ("last", "min", "product")
        require(self.reduce in known, "reduce", f"is {self.reduce!r}", f"use one of {', '.join(known)}")
        require(self.batch >= 1, "batch", f"is {self.batch}", "use at least 1")
