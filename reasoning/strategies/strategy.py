"""What a strategy is: a frozen configuration that decides what to sample next."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.tree import Tree
from branchwise.strategies.actions import Action, Event

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Tally:
    """One way of counting votes: the weight of each answer, and the probability that the leader leads."""

    votes: Mapping[Answer, float]
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy makes of a question so far."""

    answer: Answer | None
    confidence: float | None
    """Probability that `answer` is the model's most frequent one; None where a strategy has no estimate."""
    votes: Mapping[Answer, float] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """Other ways of counting the same branches, by name."""
    degraded: tuple[str, ...] = ()
    """What the strategy could not do as meant, in words for a person."""
    tree: Tree | None = None
    """The strategy's own search tree of this question, where it keeps one."""


class Strategy(ABC, Generic[State]):
    """Deterministic state transitions: no I/O, no clock, no randomness of its own, no backend.

    The driver owns the loop: it asks for actions, runs them, and tells the events, asking again after
    every single one. Events of finished work are told in the order in which the work was asked for,
    whatever finished first. The state is mutated by its one owner, the driver; a strategy itself never
    changes.

    When the budget is spent, a branch asked for is told as Failed with a BudgetError; Score, Verify and
    Root cost no budget and go on, so that what there is can be judged. The run ends when nothing is left
    but branches asked for after such a failure was told. When time is up or the run is stopped,
    whatever was under way is told as Failed without an error, and nothing more is done.
    """

    name: ClassVar[str]
    """The name on the command line."""
    batched: ClassVar[bool] = False
    """Whether it moves work between the questions of a run, which should be asked together then."""

    @property
    def alone(self) -> bool:
        """Whether it draws one path of a question from its prompt and nothing else: its text is the answer's, from the
        first token on."""
        return False

    @abstractmethod
    def start(self, roots: Sequence[Path]) -> State:
        """The state before anything was asked, for one or more questions."""

    @abstractmethod
    def ask(self, state: State) -> Sequence[Action]:
        """What to do now; empty to wait for what is under way, or to end when nothing is."""

    @abstractmethod
    def tell(self, state: State, event: Event) -> None:
        """Take in an event."""

    @abstractmethod
    def finish(self, state: State) -> Sequence[Decision]:
        """The best answer to each question so far. Called at any time; leaves the state as it is."""

    def standing(self, state: State, question: int) -> Decision:
        """The best answer to one question so far, for whoever watches; override it where that is cheaper."""
        return self.finish(state)[question]


AnyStrategy = Strategy[Any]
"""A strategy whose state is its own business."""
