"""Blend-ASC: one budget of paths for a batch of questions, spent on the questions with the least confident leader."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import beta_confidence, ratio_confidence, runner_up
from branchwise.strategies.actions import DEFAULT_PATHS, Action, check_paths
from branchwise.strategies.per_question import BatchStrategy
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision

_MAX_FAILURES = 3
"""A question gets no more paths after this many failed ones and no finished one."""


@dataclass(frozen=True, slots=True)
class BlendASC(BatchStrategy[Samples]):
    """Sample every path of a batch for the question with the least confident leader (after arXiv 2511.12309).

    Confidence blends two measures by the share of the budget spent so far. One is the Beta posterior of
    Adaptive-Consistency, which is good with few paths. The other is a prior-posterior ratio test of the leader against
    the second answer, which is good with many. A single question gets its whole budget, as in self-consistency.
    """

    name: ClassVar[str] = "blend-asc"
    batched: ClassVar[bool] = True

    paths: int = DEFAULT_PATHS
    """Average number of paths per question over a batch."""
    most: int = 40
    """Maximum number of paths of one question."""
    window: int = 4
    """Number of questions that get one more path between two decisions."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.most >= self.paths, "most", f"is {self.most}", f"use at least paths, {self.paths}")
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")

    def initial_state(self, root: Path) -> Samples:
        return Samples(root)

    def ask(self, state: list[Samples]) -> Sequence[Action]:
        if any(samples.pending for samples in state):
            return ()
        total, spent = self.paths * len(state), sum(samples.requested for samples in state)
        if not spent:
            return [action for samples in state for action in samples.sample(1, self.sampling)]
        eligible = [samples for samples in state if samples.requested < self.most and not _only_fails(samples)]
        eligible.sort(key=lambda samples: (_blended_confidence(samples, spent / total), samples.requested))
        chosen = eligible[: min(self.window, total - spent)]
        return [action for samples in chosen for action in samples.sample(1, self.sampling)]

    def decide(self, samples: Samples) -> Decision:
        return samples.majority()


def _only_fails(samples: Samples) -> bool:
    return samples.ended >= _MAX_FAILURES and not samples.finished


def _blended_confidence(samples: Samples, spent: float) -> float:
    """Return the leader's confidence; `spent` is the share of the batch's budget spent so far."""
    votes = samples.majority().votes
    leading, second = max(votes.values(), default=0.0), runner_up(votes)
    return (1 - spent) * beta_confidence(leading, second) + spent * ratio_confidence(leading, second)
