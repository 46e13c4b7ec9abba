"""Adaptive-Consistency: draw paths until the leading answer is sure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import dirichlet_confidence
from branchwise.strategies.actions import Action, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision

RULES = ("beta", "dirichlet")


@dataclass(frozen=True, slots=True)
class AdaptiveConsistency(PerQuestion[Samples]):
    """Draw paths until the leader's share is the largest with enough probability (Aggarwal et al. 2023,
    arXiv 2305.11860), then take the majority answer.

    Paths are counted in the order in which they were asked for: one that ends early counts no sooner, so that
    short answers are not favoured.
    """

    name: ClassVar[str] = "adaptive-consistency"

    paths: int = 40
    """Most paths to draw."""
    stop_at: float = 0.95
    """The probability at which it stops."""
    rule: Literal["beta", "dirichlet"] = "beta"
    """Whose probability: that the leader beats the second answer (beta), or all others (dirichlet)."""
    window: int = 1
    """Paths drawn between decisions; more take less time and some more tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(0.5 <= self.stop_at <= 1, "stop_at", f"is {self.stop_at}", "use 0.5 to 1")
        require(self.rule in RULES, "rule", f"is {self.rule!r}", f"use one of {', '.join(RULES)}")
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")

    def begin(self, root: Path) -> Samples:
        return Samples(root)

    def more(self, samples: Samples) -> Sequence[Action]:
        if samples.waiting or samples.asked >= self.paths or self._sure(samples):
            return ()
        return samples.draw(min(self.window, self.paths - samples.asked), self.sampling)

    def _sure(self, samples: Samples) -> bool:
        confidence = self.decide(samples).confidence
        return confidence is not None and confidence >= self.stop_at

    def decide(self, samples: Samples) -> Decision:
        majority = samples.majority()
        if self.rule == "dirichlet":
            return replace(majority, confidence=dirichlet_confidence(majority.votes))
        return majority
