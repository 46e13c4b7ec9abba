"""Self-consistency: independent paths and the majority answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import DEFAULT_PATHS, Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class SelfConsistency(PerQuestion[Samples]):
    """Sample paths independently and take the majority answer (Wang et al. 2022, arXiv 2203.11171)."""

    name: ClassVar[str] = "self-consistency"

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)

    @property
    def alone(self) -> bool:
        return self.paths == 1

    def initial_state(self, root: Path) -> Samples:
        return Samples(root)

    def next_actions(self, samples: Samples) -> Sequence[Action]:
        return samples.sample_once(self.paths, self.sampling)

    def decide(self, samples: Samples) -> Decision:
        return samples.majority()
