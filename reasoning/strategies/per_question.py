"""Base classes of strategies that keep one state per question. Derive from `PerQuestion` to write your own."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from branchwise.core.path import Path
from branchwise.strategies.actions import Action, Event, Failed, Finished
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision, Strategy

SamplesT = TypeVar("SamplesT", bound=Samples)


class BatchStrategy(Strategy[list[SamplesT]], Generic[SamplesT]):
    """A strategy with one state per question, whose `ask` sees all questions of the run."""

    __slots__ = ()

    @abstractmethod
    def initial_state(self, root: Path) -> SamplesT:
        """Return the state of one question before any request; `root` is its prompt."""

    @abstractmethod
    def decide(self, samples: SamplesT) -> Decision:
        """Return the best answer to one question so far. It leaves the state as it is."""

    def observe(self, samples: SamplesT, event: Event) -> None:
        """Update the state of one question with an event. Override it for state beyond the branches.

        A finished or failed branch is already counted in `samples`, unless it is an aside.
        """

    def start(self, roots: Sequence[Path]) -> list[SamplesT]:
        return [self.initial_state(root) for root in roots]

    def tell(self, state: list[SamplesT], event: Event) -> None:
        samples = state[event.question]
        if isinstance(event, Finished) and not event.aside:
            samples.finished.append(event)
            samples.ended += 1
        elif isinstance(event, Failed) and event.branch is not None and not event.aside:
            samples.ended += 1
        self.observe(samples, event)

    def finish(self, state: list[SamplesT]) -> Sequence[Decision]:
        return [self.decide(samples) for samples in state]

    def standing(self, state: list[SamplesT], question: int) -> Decision:
        return self.decide(state[question])


class PerQuestion(BatchStrategy[SamplesT]):
    """A strategy that treats every question on its own: `initial_state`, `next_actions` and `decide`."""

    __slots__ = ()

    @abstractmethod
    def next_actions(self, samples: SamplesT) -> Sequence[Action]:
        """Return the next actions for one question; an empty result waits for open requests, or ends the question."""

    def ask(self, state: list[SamplesT]) -> Sequence[Action]:
        return [action for samples in state for action in self.next_actions(samples)]
