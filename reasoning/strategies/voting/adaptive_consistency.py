"""Adaptive-Consistency: sample paths until the leading answer is confident enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import dirichlet_confidence
from branchwise.strategies.actions import DEFAULT_PATHS, Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision

RULES = ("beta", "dirichlet")


@dataclass(frozen=True, slots=True)
class AdaptiveConsistency(PerQuestion[Samples]):
    """Sample paths until the leader has the largest share with enough probability, then take the majority answer
    (Aggarwal et al. 2023, arXiv 2305.11860).

    Paths are counted in the order of the requests, not in the order in which they end, so that short answers are not
    favored.
    """

    name: ClassVar[str] = "adaptive-consistency"

    paths: int = DEFAULT_PATHS
    """Maximum number of paths."""
    stop_at: float = 0.95
    """Confidence at which sampling stops."""
    rule: Literal["beta", "dirichlet"] = "beta"
    """Confidence rule: the probability that the leader beats the second answer (beta) or all others (dirichlet)."""
    window: int = 1
    """Paths sampled between two decisions; a larger window takes less time and more tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(0.5 <= self.stop_at <= 1, "stop_at", f"is {self.stop_at}", "use 0.5 to 1")
        require(self.rule in RULES, "rule", f"is {self.rule!r}", f"use one of {', '.join(RULES)}")
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")

    def initial_state(self, root: Path) -> Samples:
        return Samples(root)

    def next_actions(self, samples: Samples) -> Sequence[Action]:
        if samples.pending or samples.requested >= self.paths or self._confident(samples):
            return ()
        return samples.sample(min(self.window, self.paths - samples.requested), self.sampling)

    def _confident(self, samples: Samples) -> bool:
        confidence = self.decide(samples).confidence
        return confidence is not None and confidence >= self.stop_at

    def decide(self, samples: Samples) -> Decision:
        majority = samples.majority()
        if self.rule == "dirichlet":
            return replace(majority, confidence=dirichlet_confidence(majority.votes))
        return majority
