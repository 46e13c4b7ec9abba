"""Blend-ASC: one budget of paths for many questions, spent where the vote is least sure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import beta_confidence, ratio_confidence, runner_up
from branchwise.strategies.actions import Action, check_paths
from branchwise.strategies.per_question import Questions
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision

_HOPELESS = 3  # branches of a question that failed, and no other: it gets no more


@dataclass(frozen=True, slots=True)
class BlendASC(Questions[Samples]):
    """Draw every path of a batch for the question whose leader is least sure (after arXiv 2511.12309).

    How sure, two measures say: the Beta posterior of Adaptive-Consistency, good with few paths, and a prior-posterior
    ratio test of the leader against the second, good with many; the share of the budget that is spent blends one into
    the other. A question by itself gets all of its budget, as in self-consistency.
    """

    name: ClassVar[str] = "blend-asc"
    batched: ClassVar[bool] = True

    paths: int = 8
    """Paths for each question, on average over a batch."""
    most: int = 40
    """Most paths for one question."""
    window: int = 4
    """Questions that get a path between decisions, the least sure ones."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.most >= self.paths, "most", f"is {self.most}", f"use at least paths, {self.paths}")
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")

    def begin(self, root: Path) -> Samples:
        return Samples(root)

    def ask(self, state: list[Samples]) -> Sequence[Action]:
        if any(samples.waiting for samples in state):
            return ()
        total, spent = self.paths * len(state), sum(samples.asked for samples in state)
        if not spent:
            return [action for samples in state for action in samples.draw(1, self.sampling)]
        open_ = [samples for samples in state if samples.asked < self.most and not _hopeless(samples)]
        open_.sort(key=lambda samples: (_sureness(samples, spent / total), samples.asked))
        chosen = open_[: min(self.window, total - spent)]
        return [action for samples in chosen for action in samples.draw(1, self.sampling)]

    def decide(self, samples: Samples) -> Decision:
        return samples.majority()


def _hopeless(samples: Samples) -> bool:
    return samples.settled >= _HOPELESS and not samples.finished


def _sureness(samples: Samples, spent: float) -> float:
    votes = samples.majority().votes
    leading, second = max(votes.values(), default=0.0), runner_up(votes)
    return (1 - spent) * beta_confidence(leading, second) + spent * ratio_confidence(leading, second)
