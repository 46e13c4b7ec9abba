"""Path-consistency: later paths continue the beginnings of those that agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import confidence, count
from branchwise.strategies.actions import Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import Decision
from branchwise.strategies.voting.prefixes import PrefixSamples


@dataclass(frozen=True, slots=True)
class PathConsistency(PerQuestion[PrefixSamples]):
    """Draw paths in windows; once an answer leads clearly, continue the first steps of the paths that
    gave it (Zhu et al. 2024, arXiv 2409.01281).

    Prefixes of agreeing paths make the rest shorter, but they are no longer independent samples: the
    leader reinforces itself. `root_share`, `step_back` and `stop_at` control that bias; `plain()`
    switches them off.
    """

    name: ClassVar[str] = "path-consistency"

    paths: int = 20
    """Most paths to draw (N in the paper)."""
    window: int = 3
    """Paths drawn between decisions."""
    max_level: int = 6
    """Most steps a prefix may have."""
    threshold: float = 0.8
    """The leading answer's confidence at which prefixes grow by a step."""
    root_share: float = 0.25
    """Share of the paths after the first window that still start at the bare prompt; 0 is the paper's form."""
    step_back: bool = True
    """Shorten the prefixes by a step when confidence falls below the threshold; False is the paper's form."""
    stop_at: float | None = 0.95
    """Stop when paths from the bare prompt alone reach this confidence; None is the paper's form."""
    probe: bool = False
    """Draw the first path alone: a backend that drafts from finished paths has one for all others then. The paths and
    votes are the same. It pays where a step takes longer for each further path, not where paths side by side are nearly
    free."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")
        require(self.max_level >= 0, "max_level", f"is {self.max_level}", "use 0 (no prefixes) or more")
        require(0.5 <= self.threshold <= 1, "threshold", f"is {self.threshold}", "use 0.5 to 1")
        require(0 <= self.root_share <= 1, "root_share", f"is {self.root_share}", "use 0 to 1")
        require(
            self.stop_at is None or 0.5 <= self.stop_at <= 1, "stop_at", f"is {self.stop_at}", "use 0.5 to 1, or None"
        )

    @classmethod
    def plain(cls, paths: int = 20, sampling: Sampling | None = None) -> "PathConsistency":
        """The paper's algorithm, without bias control."""
        return cls(paths, root_share=0.0, step_back=False, stop_at=None, sampling=sampling or Sampling())

    @property
    def alone(self) -> bool:
        return self.paths == 1

    def begin(self, root: Path) -> PrefixSamples:
        return PrefixSamples(root, prefixes=[root])

    def more(self, samples: PrefixSamples) -> Sequence[Action]:
        if samples.waiting:
            return ()
        probed = self.probe and samples.settled == 1 < self.window  # what is left of the first window comes next
        if samples.settled > samples.looked_at and not probed:
            samples.looked_at = samples.settled
            self._decide_level(samples)
        if samples.settled_early or samples.asked >= self.paths:
            return ()
        first, end = samples.asked, min(samples.asked + self.window - probed, self.paths)
        if self.probe and not first:
            end = 1
        samples.asked = end
        return samples.extend(range(first, end), self.name, self.root_share, self.sampling)

    def _decide_level(self, samples: PrefixSamples) -> None:
        """After a window: stop, or lengthen or shorten the prefixes."""
        if self.stop_at is not None:
            alone = confidence(samples.settling())
            samples.settled_early = alone is not None and alone >= self.stop_at
        samples.change_level(self.threshold, self.max_level, self.step_back)

    def decide(self, samples: PrefixSamples) -> Decision:
        notes = samples.uncut(self.name) if self.max_level else ()
        return samples.conclude(count(samples.answers), self.root_share, notes)
