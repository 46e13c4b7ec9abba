"""The base of strategies that treat every question alone."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from branchwise.actions import Action, Event, Extend, Failed, Finished
from branchwise.answers.answer import Answer
from branchwise.path import Path
from branchwise.sampling import Sampling
from branchwise.strategy import Decision, Strategy
from branchwise.votes import confidence, count, leader


@dataclass(slots=True)
class Samples:
    """What a strategy knows of one question: its finished branches, in issue order."""

    root: Path
    asked: int = 0  # branches asked for
    settled: int = 0  # branches that finished, failed or were cancelled
    finished: list[Finished] = field(default_factory=list)

    @property
    def answers(self) -> list[Answer | None]:
        return [branch.answer for branch in self.finished]

    def majority(self) -> Decision:
        """Each answer one vote."""
        votes = count(self.answers)
        return Decision(leader(votes), confidence(votes), votes)

    def ask_once(self, paths: int, sampling: Sampling) -> Sequence[Action]:
        """`paths` branches from the prompt, the first time it is called."""
        if self.asked:
            return ()
        self.asked = paths
        return (Extend(self.root, paths, sampling),)


SamplesT = TypeVar("SamplesT", bound=Samples)


class PerQuestion(Strategy[list[SamplesT]], Generic[SamplesT]):
    """A strategy made of three answers: what a question begins with, what to do next, what to conclude."""

    __slots__ = ()

    @abstractmethod
    def begin(self, root: Path) -> SamplesT:
        """The state of one question before anything was asked."""

    @abstractmethod
    def more(self, samples: SamplesT) -> Sequence[Action]:
        """What to ask for next on one question; empty to wait or to end."""

    @abstractmethod
    def decide(self, samples: SamplesT) -> Decision:
        """The best answer so far."""

    def take(self, samples: SamplesT, event: Event) -> None:
        """Take in an event of one question; called after the branch was counted, if it is no aside."""

    def start(self, roots: Sequence[Path]) -> list[SamplesT]:
        return [self.begin(root) for root in roots]

    def ask(self, state: list[SamplesT]) -> Sequence[Action]:
        return [action for samples in state for action in self.more(samples)]

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
