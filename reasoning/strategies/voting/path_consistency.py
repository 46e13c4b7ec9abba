"""Path-consistency: later paths continue the first steps of earlier paths that agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import confidence, count
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Event, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import AnyStrategy, Decision
from branchwise.strategies.voting.prefixes import PrefixSamples


@dataclass(frozen=True, slots=True)
class PathConsistency(PerQuestion[PrefixSamples]):
    """Sample paths in windows; once an answer leads clearly, continue the first steps of its paths (Zhu et al. 2024,
    arXiv 2409.01281).

    Paths that continue a prefix are shorter, but they are not independent samples: the leader reinforces itself.
    `root_share`, `step_back` and `stop_at` control that bias; `plain()` switches them off.
    """

    name: ClassVar[str] = "path-consistency"

    paths: int = DEFAULT_PATHS
    """Maximum number of paths (N in the paper)."""
    window: int = 3
    """Paths sampled between two decisions."""
    max_level: int = 6
    """Maximum number of steps of a prefix."""
    threshold: float = 0.8
    """Confidence of the leading answer at which prefixes become one step longer."""
    root_share: float = 0.25
    """Share of the paths after the first window that still start at the bare prompt; the paper uses 0."""
    step_back: bool = True
    """Shorten the prefixes by a step when confidence falls below the threshold; the paper does not."""
    stop_at: float | None = 0.95
    """Stop when the paths from the bare prompt alone reach this confidence; the paper does not stop (None)."""
    probe: bool = False
    """Sample the first path alone, so that a backend with a drafter has a finished path to draft the others from. Paths
    and votes are the same. It pays if a decode step takes longer for each further path in the batch."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

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
    def plain(cls, paths: int = DEFAULT_PATHS, sampling: Sampling | None = None) -> "PathConsistency":
        """Return the paper's algorithm, without bias control."""
        return cls(paths, root_share=0.0, step_back=False, stop_at=None, sampling=sampling or Sampling())

    @property
    def alone(self) -> bool:
        return self.paths == 1

    @property
    def fallback(self) -> AnyStrategy | None:
        return replace(self, max_level=0) if self.max_level and self.paths > 1 else None

    def initial_state(self, root: Path) -> PrefixSamples:
        return PrefixSamples(root, prefixes=[root])

    def next_actions(self, samples: PrefixSamples) -> Sequence[Action]:
        if samples.pending:
            return ()
        probed = self.probe and samples.ended == 1 < self.window
        if samples.ended > samples.decided_at and not probed:  # a probe is part of the first window
            samples.decided_at = samples.ended
            self._decide_level(samples)
        if samples.stopped or samples.requested >= self.paths:
            return ()
        first = samples.requested
        if self.probe and not first:
            size = 1
        elif probed:
            size = self.window - 1
        else:
            size = self.window
        samples.requested = min(first + size, self.paths)
        return samples.extend(range(first, samples.requested), self.name, self.root_share, self.sampling)

    def observe(self, samples: PrefixSamples, event: Event) -> None:
        samples.observe_failure(event)

    def _decide_level(self, samples: PrefixSamples) -> None:
        """After a window, stop, or lengthen or shorten the prefixes."""
        if self.stop_at is not None:
            unbiased = confidence(samples.stopping_votes())
            samples.stopped = unbiased is not None and unbiased >= self.stop_at
        samples.update_level(self.threshold, self.max_level, self.step_back)

    def decide(self, samples: PrefixSamples) -> Decision:
        notes = samples.uncut_notes(self.name) if self.max_level else ()
        return samples.conclude(count(samples.answers), self.root_share, notes)
