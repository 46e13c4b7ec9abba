"""Telling whoever watches a run what happens in it."""

import itertools
from collections.abc import Iterator

from branchwise.backends.stream import Tokens
from branchwise.core.errors import CallError
from branchwise.core.sampling import Sampling
from branchwise.driver.account import Account
from branchwise.driver.observe import (
    BranchEnded,
    BranchGrew,
    BranchStarted,
    Observer,
    QuestionEnded,
    QuestionStarted,
    RequestEnded,
    RequestStarted,
    RunEnded,
    RunEvent,
    RunStarted,
    Standing,
    Together,
)
from branchwise.driver.report import outcome
from branchwise.driver.setup import Setup
from branchwise.driver.work import Item
from branchwise.strategies.actions import Completion, Extend, Failed, Finished, Progress, Score, Verify
from branchwise.strategies.strategy import AnyStrategy, Decision

_RUNS = itertools.count()


class Reporter:
    """Tells the observers of a run, if there are any. One that fails is told nothing more: it never breaks a run."""

    def __init__(self, observer: Observer | None) -> None:
        self.error: CallError | None = None
        """What the first that failed failed with."""
        self._run = next(_RUNS)
        self._observers = [] if observer is None else list(_each(observer))

    @property
    def listened(self) -> bool:
        return bool(self._observers)

    @property
    def standings(self) -> bool:
        """Whether anybody wants to know how questions stand."""
        return any(map(_wants_standings, self._observers))

    def run_started(self, questions: int, strategy: AnyStrategy, setup: Setup) -> None:
        name: str = getattr(strategy, "name", type(strategy).__name__)
        self._tell(
            RunStarted(self._run, questions, name, setup.backend.capabilities.model, setup.task.name, setup.seed)
        )

    def run_ended(self) -> None:
        self._tell(RunEnded(self._run))

    def question_started(self, account: Account) -> None:
        self._tell(QuestionStarted(self._run, account.number))

    def question_ended(self, account: Account, decision: Decision | None, raised: BaseException | None = None) -> None:
        usage = account.usage.model_copy(update={"seconds": account.seconds})
        how = None if decision is None else outcome(account, decision)
        errors = tuple(account.errors)
        self._tell(QuestionEnded(self._run, account.number, usage, decision, how, errors, raised))

    def stands(self, account: Account, decision: Decision) -> None:
        self._tell(Standing(self._run, account.number, decision, account.usage.sampled))

    def started(self, item: Item, sampling: Sampling | None = None) -> None:
        """A branch with its `sampling`, a score or a check began."""
        question, action = item.origin.account.number, item.action
        if isinstance(action, Score | Verify):
            self._tell(RequestStarted(self._run, question, item.number, action))
        elif isinstance(action, Extend) and item.branch is not None and sampling is not None:
            self._tell(BranchStarted(self._run, question, item.branch, action, sampling, item.origin.aside))

    def grew(self, item: Item, tokens: Tokens) -> None:
        if self._observers and item.branch is not None:
            self._tell(BranchGrew(self._run, item.origin.account.number, item.branch, tokens.count, tokens.text))

    def ended(self, item: Item, event: Completion | Progress) -> None:
        """Something came of an item; it is told where that is the end of a branch, a score or a check."""
        question, action = item.origin.account.number, item.action
        if not self._observers or isinstance(event, Progress):
            return
        error = event.error if isinstance(event, Failed) else None
        cost = item.cost.lost() if isinstance(event, Failed) else item.cost
        if isinstance(action, Score | Verify):
            done = not isinstance(event, Failed)
            self._tell(RequestEnded(self._run, question, item.number, done, cost, error))
        elif isinstance(action, Extend) and item.branch is not None:
            kept = isinstance(event, Finished)
            answer, path = (event.answer, event.path) if isinstance(event, Finished) else (None, None)
            self._tell(BranchEnded(self._run, question, item.branch, kept, answer, action, cost, path, error))

    def _tell(self, event: RunEvent) -> None:
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


def _each(observer: Observer) -> Iterator[Observer]:
    """Those that an observer stands for, however they were put together."""
    if isinstance(observer, Together):
        for one in observer.observers:
            yield from _each(one)
    else:
        yield observer
