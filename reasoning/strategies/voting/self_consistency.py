"""Self-consistency: independent paths, majority answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class SelfConsistency(PerQuestion[Samples]):
    """Draw paths independently and take the majority answer (Wang et al. 2022, arXiv 2203.11171)."""

    name: ClassVar[str] = "self-consistency"

    paths: int = 20
    """How many paths to draw."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)

    @property
    def alone(self) -> bool:
        return self.paths == 1

    def begin(self, root: Path) -> Samples:
        return Samples(root)

    def more(self, samples: Samples) -> Sequence[Action]:
        return samples.ask_once(self.paths, self.sampling)

    def decide(self, samples: Samples) -> Decision:
        return samples.majority()
