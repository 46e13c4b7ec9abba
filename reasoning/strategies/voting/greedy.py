"""Greedy decoding: the single most probable continuation, token by token."""

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
    """One path at temperature 0: the baseline every other strategy must beat."""

    name: ClassVar[str] = "greedy"

    sampling: Sampling = field(default_factory=Sampling)
    """Limits and stops; its temperature is not used."""

    @property
    def alone(self) -> bool:
        return True

    def begin(self, root: Path) -> Samples:
        return Samples(root)

    def more(self, samples: Samples) -> Sequence[Action]:
        return samples.ask_once(1, replace(self.sampling, temperature=0.0))

    def decide(self, samples: Samples) -> Decision:
        majority = samples.majority()
        # One path at temperature 0 says nothing of how often the model gives its answer.
        return Decision(majority.answer, None, majority.votes)
