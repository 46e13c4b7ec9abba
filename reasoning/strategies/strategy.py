"""The strategy protocol: a frozen configuration that decides which requests the driver runs next.

`PerQuestion` (per_question.py) is the base most strategies derive from.
"""

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
    """One way of counting votes."""

    votes: Mapping[Answer, float]
    """The weight of each answer."""
    confidence: float | None
    """Probability that the leader is the model's most frequent answer."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The best answer to one question, given the events so far."""

    answer: Answer | None
    confidence: float | None
    """Probability that `answer` is the model's most frequent one; None if the strategy has no estimate."""
    votes: Mapping[Answer, float] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """Other ways of counting the same branches, by name."""
    degraded: tuple[str, ...] = ()
    """Notes for the user on parts of the strategy that the backend could not support."""
    tree: Tree | None = None
    """The strategy's search tree of this question, if it builds one."""


class Strategy(ABC, Generic[State]):
    """A deterministic state machine over events: no I/O, no clock, no randomness of its own, no backend.

    The driver owns the loop. It asks for actions, runs them, passes every event back, and asks again after each one.
    Completions arrive in the order of the requests, not in the order in which the work finished. The driver keeps the
    state and passes it to every method; the strategy itself never changes.

    When the budget is spent, a requested branch is answered by Failed with a BudgetError. Score, Verify and Root
    cost no budget and still run, so a strategy can judge the branches it has. The run ends when the only open
    requests are branches requested after such a failure. When the time limit is reached or the run is stopped, open
    requests are answered by Failed without an error, and no further action runs.
    """

    name: ClassVar[str]
    """The name on the command line."""
    batched: ClassVar[bool] = False
    """True if the strategy moves budget between questions, so that the questions should be solved in one run."""
    default_task: ClassVar[str] = "math"
    """Name of the task that is used if the user names none."""

    @property
    def alone(self) -> bool:
        """Return True if the only branch of a question is one path from its prompt.

        The text of that path is the answer's text from the first token on, so it can be streamed.
        """
        return False

    @property
    def fallback(self) -> "AnyStrategy | None":
        """Return the strategy to run instead where a backend does not continue paths; None if this one needs none.

        It runs only if the caller allows it.
        """
        return None

    @abstractmethod
    def start(self, roots: Sequence[Path]) -> State:
        """Return the state before any action, for one root a question."""

    @abstractmethod
    def ask(self, state: State) -> Sequence[Action]:
        """Return the actions to run now; an empty result waits for open requests, or ends the run without any."""

    @abstractmethod
    def tell(self, state: State, event: Event) -> None:
        """Update the state with an event."""

    @abstractmethod
    def finish(self, state: State) -> Sequence[Decision]:
        """Return the best answer to each question so far. Called at any time; leaves the state as it is."""

    def standing(self, state: State, question: int) -> Decision:
        """Return the best answer to one question so far, for progress reports. Override it to avoid the full result."""
        return self.finish(state)[question]


AnyStrategy = Strategy[Any]
"""A strategy with any state. The state type is invariant, so `Strategy[object]` would not accept them."""
