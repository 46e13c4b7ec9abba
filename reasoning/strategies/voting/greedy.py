"""Greedy decoding: one path of the most probable token at every position."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import Action
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class Greedy(PerQuestion[Samples]):
    """One path at temperature 0: the baseline of every other strategy."""

    name: ClassVar[str] = "greedy"

    sampling: Sampling = field(default_factory=Sampling)
    """Token limit and stop strings; the temperature is replaced by 0."""

    @property
    def alone(self) -> bool:
        return True

    def initial_state(self, root: Path) -> Samples:
        return Samples(root)

    def next_actions(self, samples: Samples) -> Sequence[Action]:
        return samples.sample_once(1, replace(self.sampling, temperature=0.0))

    def decide(self, samples: Samples) -> Decision:
        majority = samples.majority()
        # One path at temperature 0 gives no estimate of how often the model states its answer.
        return Decision(majority.answer, None, majority.votes)
