"""The bases of strategies that conclude on every question alone."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from branchwise.core.path import Path
from branchwise.strategies.actions import Action, Event, Failed, Finished
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision, Strategy

SamplesT = TypeVar("SamplesT", bound=Samples)


class Questions(Strategy[list[SamplesT]], Generic[SamplesT]):
    """A strategy that keeps samples of each question, and concludes on each by itself."""

    __slots__ = ()

    @abstractmethod
    def begin(self, root: Path) -> SamplesT:
        """The state of one question before anything was asked."""

    @abstractmethod
    def decide(self, samples: SamplesT) -> Decision:
        """The best answer so far."""

    def take(self, samples: SamplesT, event: Event) -> None:
        """Take in an event of one question; called after the branch was counted, if it is no aside."""

    def start(self, roots: Sequence[Path]) -> list[SamplesT]:
        return [self.begin(root) for root in roots]

    def tell(self, state: list[SamplesT], event: Event) -> None:
        samples = state[event.question]
        if isinstance(event, Finished) and not event.aside:
            samples.finished.append(event)
            samples.settled += 1
        elif isinstance(event, Failed) and event.branch is not None and not event.aside:
            samples.settled += 1
        self.take(samples, event)

    def finish(self, state: list[SamplesT]) -> Sequence[Decision]:
        return [self.decide(samples) for samples in state]

    def standing(self, state: list[SamplesT], question: int) -> Decision:
        return self.decide(state[question])


class PerQuestion(Questions[SamplesT]):
    """A strategy made of three answers: what a question begins with, what to do next, what to conclude."""

    __slots__ = ()

    @abstractmethod
    def more(self, samples: SamplesT) -> Sequence[Action]:
        """What to ask for next on one question; empty to wait or to end."""

    def ask(self, state: list[SamplesT]) -> Sequence[Action]:
        return [action for samples in state for action in self.more(samples)]
