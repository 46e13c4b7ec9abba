"""Events that a run reports while it works, for live displays, traces and logs.

RunStarted
├── QuestionStarted ... QuestionEnded            each question, also if the run raises or is cancelled
│   ├── BranchStarted, BranchGrew, BranchEnded   each branch; one refused or cancelled early ends without a start
│   ├── RequestStarted, RequestEnded             each score and each verification
│   └── Standing                                 after every branch of the question itself
└── RunEnded                                     always the last
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from branchwise.backends.stream import Tokens
from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError, CallError
from branchwise.core.path import Path
from branchwise.core.result import Outcome
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.driver.requests import PendingRequest
from branchwise.driver.results import QuestionState
from branchwise.strategies.actions import Completion, Extend, Failed, Finished, Score, Verify
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run started. `run` is unique in this process, and every event of the run carries it."""

    run: int
    questions: int
    strategy: str
    model: str
    task: str
    seed: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run ended; no event of it follows."""

    run: int


@dataclass(frozen=True, slots=True)
class QuestionStarted:
    """Work on a question started; `question` is its position among the questions of the run."""

    run: int
    question: int


@dataclass(frozen=True, slots=True)
class QuestionEnded:
    """Work on a question ended. If the run raised, `raised` is set, and decision and outcome are None."""

    run: int
    question: int
    usage: Usage
    decision: Decision | None
    outcome: Outcome | None
    errors: tuple[BranchwiseError, ...]
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True)
class BranchStarted:
    """A branch was submitted to the backend. Branches with the same `action` were requested together."""

    run: int
    question: int
    branch: int
    action: Extend
    sampling: Sampling
    """As submitted: `max_tokens` is what the budget granted, `stop` includes the task's stop strings."""
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
    """A branch finished, failed or was cancelled. Only a finished one is `kept` and has a path."""

    run: int
    question: int
    branch: int
    kept: bool
    answer: Answer | None
    action: Extend
    cost: Usage
    """The usage charged to the question."""
    path: Path | None = None
    error: BranchwiseError | None = None
    """None if the branch finished or was cancelled."""


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A score or a verification of a path started."""

    run: int
    question: int
    request: int
    action: Score | Verify


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A score or a verification ended; `done` is False if it failed or was cancelled."""

    run: int
    question: int
    request: int
    done: bool
    cost: Usage
    error: BranchwiseError | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The strategy's decision on a question so far, after `sampled` tokens."""

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
"""Receives every event, in the event loop of its run. Several runs may share one: `run` distinguishes their events.
An observer with the attribute `standings = False` receives no Standing, which saves a vote count after each branch."""


@dataclass(frozen=True, slots=True)
class Together:
    """Several observers as one. If one fails, it receives no more events of that run; the others do."""

    observers: tuple[Observer, ...]

    def __call__(self, event: RunEvent) -> None:
        for observer in self.observers:
            observer(event)


def together(*observers: Observer | None) -> Observer | None:
    """Return one observer for all that are not None, or None if all are."""
    given = tuple(observer for observer in observers if observer is not None)
    return Together(given) if len(given) > 1 else next(iter(given), None)


_RUN_NUMBERS = itertools.count()


class Reporter:
    """Sends the events of one run to its observers. An observer that raises receives no more of them."""

    def __init__(self, observer: Observer | None) -> None:
        self.error: CallError | None = None
        """The error of the first observer that raised."""
        self._run = next(_RUN_NUMBERS)
        self._observers = [] if observer is None else list(_flatten(observer))

    @property
    def wants_standings(self) -> bool:
        return any(map(_wants_standings, self._observers))

    def run_started(self, *, questions: int, strategy: str, model: str, task: str, seed: int) -> None:
        self._send(RunStarted(self._run, questions, strategy, model, task, seed))

    def run_ended(self) -> None:
        self._send(RunEnded(self._run))

    def question_started(self, question: QuestionState) -> None:
        self._send(QuestionStarted(self._run, question.number))

    def question_ended(
        self, question: QuestionState, decision: Decision | None, raised: BaseException | None = None
    ) -> None:
        outcome = None if decision is None else question.outcome(decision)
        errors = tuple(question.errors)
        self._send(QuestionEnded(self._run, question.number, question.total_usage, decision, outcome, errors, raised))

    def standing(self, question: QuestionState, decision: Decision) -> None:
        self._send(Standing(self._run, question.number, decision, question.usage.sampled))

    def request_started(self, request: PendingRequest, sampling: Sampling | None = None) -> None:
        """Report the start of a score, a verification, or a branch with its `sampling`."""
        question, action = request.origin.question.number, request.action
        if isinstance(action, Score | Verify):
            self._send(RequestStarted(self._run, question, request.number, action))
        elif isinstance(action, Extend) and request.branch is not None and sampling is not None:
            self._send(BranchStarted(self._run, question, request.branch, action, sampling, request.origin.aside))

    def branch_grew(self, request: PendingRequest, tokens: Tokens) -> None:
        if self._observers and request.branch is not None:
            self._send(BranchGrew(self._run, request.origin.question.number, request.branch, tokens.count, tokens.text))

    def request_ended(self, request: PendingRequest, completion: Completion) -> None:
        """Report the end of a branch, a score or a verification."""
        if not self._observers:
            return
        question, action = request.origin.question.number, request.action
        failed = isinstance(completion, Failed)
        error = completion.error if isinstance(completion, Failed) else None
        cost = request.cost.lost() if failed else request.cost
        if isinstance(action, Score | Verify):
            self._send(RequestEnded(self._run, question, request.number, not failed, cost, error))
        elif isinstance(action, Extend) and request.branch is not None:
            finished = completion if isinstance(completion, Finished) else None
            self._send(
                BranchEnded(
                    run=self._run,
                    question=question,
                    branch=request.branch,
                    kept=finished is not None,
                    answer=None if finished is None else finished.answer,
                    action=action,
                    cost=cost,
                    path=None if finished is None else finished.path,
                    error=error,
                )
            )

    def _send(self, event: RunEvent) -> None:
        for observer in tuple(self._observers):
            if isinstance(event, Standing) and not _wants_standings(observer):
                continue
            try:
                observer(event)
            except Exception as error:
                self._observers.remove(observer)
                self.error = self.error or CallError("observer", error)


def _wants_standings(observer: Observer) -> bool:
    return bool(getattr(observer, "standings", True))


def _flatten(observer: Observer) -> Iterator[Observer]:
    """Yield the observers that `observer` combines, nested ones included."""
    if isinstance(observer, Together):
        for part in observer.observers:
            yield from _flatten(part)
    else:
        yield observer
