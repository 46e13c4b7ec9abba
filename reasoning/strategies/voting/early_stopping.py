"""Early-stopping self-consistency: stop at the first unanimous window."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class EarlyStopping(PerQuestion[Samples]):
    """Draw paths in windows until all paths of one state the same answer (ESC, Li et al. 2024, arXiv 2401.10480),
    then take the majority answer."""

    name: ClassVar[str] = "esc"

    paths: int = 40
    """Most paths to draw."""
    window: int = 5
    """Paths that must agree."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.window >= 2, "window", f"is {self.window}", "use at least 2: one path always agrees with itself")

    def begin(self, root: Path) -> Samples:
        return Samples(root)

    def more(self, samples: Samples) -> Sequence[Action]:
        if samples.waiting or samples.asked >= self.paths or self._unanimous(samples):
            return ()
        return samples.draw(min(self.window, self.paths - samples.asked), self.sampling)

    def _unanimous(self, samples: Samples) -> bool:
        """Whether the latest window was; a path that failed or states no answer spoils it."""
        if not samples.finished:
            return False
        latest = samples.finished[-1].action
        answers = [branch.answer for branch in samples.finished if branch.action is latest]
        return len(answers) == latest.count and None not in answers and len(set(answers)) == 1

    def decide(self, samples: Samples) -> Decision:
        return samples.majority()
