"""What a run reports while it works, for live displays, traces and logs.

RunStarted
├── QuestionStarted ... QuestionEnded            each question; also where the run raises or is cancelled
│   ├── BranchStarted, BranchGrew, BranchEnded   each branch; one that was refused or not wanted any more ends unstarted
│   ├── RequestStarted, RequestEnded             each score and each check
│   └── Standing                                 after every branch of the question itself
└── RunEnded                                     always the last
"""

from collections.abc import Callable
from dataclasses import dataclass

from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError
from branchwise.core.path import Path
from branchwise.core.result import Outcome
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.strategies.actions import Extend, Score, Verify
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run began. Its number, which all its events have, is its own in this process."""

    run: int
    questions: int
    strategy: str
    model: str
    task: str
    seed: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Nothing more comes of a run."""

    run: int


@dataclass(frozen=True, slots=True)
class QuestionStarted:
    """Work on a question began; `question` is its place among all questions of the run."""

    run: int
    question: int


@dataclass(frozen=True, slots=True)
class QuestionEnded:
    """Work on a question ended, or was torn down by `raised`: then there is no decision and no outcome."""

    run: int
    question: int
    usage: Usage
    decision: Decision | None
    outcome: Outcome | None
    errors: tuple[BranchwiseError, ...]
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True)
class BranchStarted:
    """A branch was handed to the backend. Branches of one `action` were asked for together: a window."""

    run: int
    question: int
    branch: int
    action: Extend
    sampling: Sampling
    """As the backend was asked: `max_tokens` is what the budget granted, `stop` has the task's own."""
    aside: bool


@dataclass(frozen=True, slots=True)
class BranchGrew:
    """New tokens of a branch."""

    run: int
    question: int
    branch: int
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class BranchEnded:
    """A branch ended, was cancelled or failed; `kept` is whether it finished, and only then there is a path."""

    run: int
    question: int
    branch: int
    kept: bool
    answer: Answer | None
    action: Extend
    cost: Usage
    """What the question is charged for it."""
    path: Path | None = None
    error: BranchwiseError | None = None
    """Why it failed; None where it was cancelled."""


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A score or a check of a path began."""

    run: int
    question: int
    request: int
    action: Score | Verify


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A score or a check ended; `done` is whether it came to anything."""

    run: int
    question: int
    request: int
    done: bool
    cost: Usage
    error: BranchwiseError | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the strategy makes of a question by now, after so many sampled tokens."""

    run: int
    question: int
    decision: Decision
    sampled: int


RunEvent = (
    RunStarted
    | RunEnded
    | QuestionStarted
    | QuestionEnded
    | BranchStarted
    | BranchGrew
    | BranchEnded
    | RequestStarted
    | RequestEnded
    | Standing
)
Observer = Callable[[RunEvent], None]
"""Is told every event, in the event loop of its run. Runs may share one: each has a number of its own. An observer
with an attribute `standings` that is False is told no Standing, which spares a count of votes after every branch."""


@dataclass(frozen=True, slots=True)
class Together:
    """Several observers as one. One that fails is told nothing more of that run; the others are."""

    observers: tuple[Observer, ...]

    def __call__(self, event: RunEvent) -> None:
        for observer in self.observers:
            observer(event)


def together(*observers: Observer | None) -> Observer | None:
    """One observer for all that are not None; None where there is none."""
    given = tuple(observer for observer in observers if observer is not None)
    return Together(given) if len(given) > 1 else next(iter(given), None)
