"""Early-stopping self-consistency: stop at the first unanimous window."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import DEFAULT_PATHS, Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class EarlyStopping(PerQuestion[Samples]):
    """Sample paths in windows until all paths of one window agree, then take the majority answer (ESC, Li et al. 2024,
    arXiv 2401.10480)."""

    name: ClassVar[str] = "esc"

    paths: int = DEFAULT_PATHS
    """Maximum number of paths."""
    window: int = 5
    """Paths per window, all of which must agree."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.window >= 2, "window", f"is {self.window}", "use at least 2: one path always agrees with itself")

    def initial_state(self, root: Path) -> Samples:
        return Samples(root)

    def next_actions(self, samples: Samples) -> Sequence[Action]:
        if samples.pending or samples.requested >= self.paths or self._unanimous(samples):
            return ()
        return samples.sample(min(self.window, self.paths - samples.requested), self.sampling)

    def _unanimous(self, samples: Samples) -> bool:
        """Return True if every path of the latest window finished and all state the same answer."""
        if not samples.finished:
            return False
        latest = samples.finished[-1].action
        answers = [branch.answer for branch in samples.finished if branch.action is latest]
        return len(answers) == latest.count and None not in answers and len(set(answers)) == 1

    def decide(self, samples: Samples) -> Decision:
        return samples.majority()
