"""One run: the loop between a strategy and a backend.

prepare  make each question a prompt; a question whose prompt fails is over before the strategy starts
loop     submit the strategy's actions; after every single event, ask it for more
finish   stop what is under way, deliver the completion of every request, return the decisions as results
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from branchwise.answers.groups import AnswerGroups
from branchwise.backends.base import Backend
from branchwise.core.budget import UNLIMITED, Budget
from branchwise.core.errors import ConfigError
from branchwise.core.question import Question
from branchwise.core.result import Outcome, Result
from branchwise.driver.events import Observer, Reporter
from branchwise.driver.fallbacks import NO_CANCEL, standing_notes
from branchwise.driver.first_reply import FirstReplies
from branchwise.driver.requests import Arrival, Origin, PendingRequest, RequestQueue, Roots
from branchwise.driver.results import QuestionState
from branchwise.driver.scheduler import Scheduler, Verifier
from branchwise.driver.stop import Stop
from branchwise.prompts.task import Task
from branchwise.strategies.actions import (
    Action,
    Cancel,
    Extend,
    Failed,
    Progress,
    Request,
    Root,
    Rooted,
    Verify,
)
from branchwise.strategies.strategy import Decision, State, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything a run needs besides its strategy and its questions."""

    backend: Backend
    task: Task
    budget: Budget = UNLIMITED
    seed: int = 0
    verifier: Verifier | None = None
    observer: Observer | None = None
    stop: Stop = field(default_factory=Stop)
    notes: tuple[str, ...] = ()
    """Notes of every result."""
    clock: Callable[[], float] = time.monotonic
    """Returns seconds."""


class Run(Generic[State]):
    """One run of a strategy over one or more questions. Use it once."""

    def __init__(self, strategy: Strategy[State], config: RunConfig) -> None:
        self.questions: list[QuestionState] = []
        self._strategy = strategy
        self._config = config
        self._active: list[QuestionState] = []  # the questions that the strategy started with
        self._early_end: Outcome | None = None  # reason why the run ends before the strategy does
        self._started = config.clock()
        self._requests = RequestQueue()
        self._roots = Roots()
        self._first_replies = FirstReplies()
        self._reporter = Reporter(config.observer)
        self._scheduler = Scheduler(
            config.backend,
            config.budget,
            seed=config.seed,
            verifier=config.verifier,
            requests=self._requests,
            roots=self._roots,
            reporter=self._reporter,
        )

    async def solve(self, questions: Sequence[Question]) -> list[Result]:
        """Run the strategy to its end; return the result of each question, in order."""
        config = self._config
        self._reporter.run_started(
            questions=len(questions),
            strategy=getattr(self._strategy, "name", type(self._strategy).__name__),
            model=config.backend.capabilities.model,
            task=config.task.name,
            seed=config.seed,
        )
        try:
            decisions = await self._decide(questions)
        except BaseException as error:
            self._report_raised(error)
            raise
        for question, decision in zip(self.questions, decisions, strict=True):
            self._reporter.question_ended(question, decision)
        self._reporter.run_ended()
        return [
            question.result(decision, config.task, self._reporter.error)
            for question, decision in zip(self.questions, decisions, strict=True)
        ]

    async def _decide(self, questions: Sequence[Question]) -> list[Decision]:
        """Return the decision on each question; an empty one if its prompt failed."""
        with self._woken_by_stop():
            try:
                await self._prepare(questions)
                decisions = await self._run_strategy() if self._active else []
            finally:
                await self._scheduler.halt()
                with contextlib.suppress(Exception):  # a hint to the backend, whose failure costs no result
                    self._config.backend.release(self._scheduler.sampled_paths)
        by_number = {question.number: d for question, d in zip(self._active, decisions, strict=True)}
        return [by_number.get(question.number, Decision(None, None)) for question in self.questions]

    async def _prepare(self, questions: Sequence[Question]) -> None:
        """Make each question a prompt. A question that has none fails alone."""
        for question in questions:
            self._submit_prompt(question)
        while (arrival := await self._next_arrival()) is not None:
            state = arrival.request.origin.question
            if isinstance(arrival.event, Rooted):
                state.root = arrival.event.path
            elif isinstance(arrival.event, Failed) and arrival.event.error is not None:
                state.errors.append(arrival.event.error)
        if self._early_end is not None:
            await self._scheduler.halt()
            for state in self.questions:
                if not state.errors:
                    state.end_early(self._early_end)
            return
        self._active = [state for state in self.questions if state.root is not None]
        for index, state in enumerate(self._active):
            state.index = index

    def _submit_prompt(self, question: Question) -> None:
        task, number = self._config.task, len(self.questions)
        state = QuestionState(number, number, AnswerGroups(task.format, seconds_left=self._seconds_remaining))
        notes = (*self._config.notes, *standing_notes(self._config.backend.capabilities))
        state.notes.update(dict.fromkeys(notes))
        self.questions.append(state)
        self._reporter.question_started(state)
        try:
            messages = task.render(question)
        except ConfigError as error:
            state.errors.append(error)
        else:
            self._submit(PendingRequest(Root(messages), Origin(state, task)))

    async def _run_strategy(self) -> Sequence[Decision]:
        """Run the strategy from start to finish; return its decision on each active question."""
        state = self._strategy.start([question.root for question in self._active if question.root is not None])
        self._ask(state)
        while (arrival := await self._next_arrival()) is not None:
            await self._tell(state, arrival)
            self._ask(state)
        await self._deliver_rest(state, self._early_end)
        return self._strategy.finish(state)

    async def _deliver_rest(self, state: State, reason: Outcome | None) -> None:
        """Stop what is under way and deliver every completion left. `reason` is set if the run ends early."""
        if reason is not None:
            for request in self._requests.incomplete():
                request.origin.question.end_early(reason)
        await self._scheduler.halt()
        for arrival in self._requests.drain():
            await self._tell(state, arrival)
            if reason is not None:
                self._mark_incomplete(self._strategy.ask(state), reason)
        if self._strategy.batched and reason is not None and any(question.early_end for question in self._active):
            for question in self._active:  # work that one question missed might have gone to another
                question.end_early(reason)

    def _mark_incomplete(self, actions: Sequence[Action], reason: Outcome) -> None:
        """End the questions early for which the strategy requests more, although the run is over."""
        for action in actions:
            if not isinstance(action, Cancel):
                self._origin(action).question.end_early(reason)

    def _ask(self, state: State) -> None:
        """Submit the actions that the strategy wants now."""
        for action in self._strategy.ask(state):
            if isinstance(action, Cancel):
                self._cancel(action)
            else:
                self._take(action)
        self._scheduler.start_branches()

    def _take(self, action: Request) -> None:
        """Submit an action: a request, or one for each branch. Raises ConfigError if the action is invalid."""
        if isinstance(action, Verify) and self._config.verifier is None:
            problem = f"{self._strategy.name} checks paths but none was given"
            raise ConfigError("verifier", problem, "pass one (--verifier)")
        origin = self._origin(action)
        if not isinstance(action, Extend):
            self._submit(PendingRequest(action, origin))
            return
        for key in self._roots.sample_keys(action):
            self._submit(PendingRequest(action, origin, key, after_refusal=origin.question.budget_exhausted))

    def _submit(self, request: PendingRequest) -> None:
        self._requests.add(request)
        if not self._first_replies.holds(request):
            self._scheduler.submit(request)

    def _origin(self, action: Request) -> Origin:
        """Return the question and the task that an action belongs to. Raises ConfigError if it belongs to none."""
        if not isinstance(action, Root):
            return self._roots.origin(action.path)
        if not 0 <= action.question < len(self._active):
            raise ConfigError("Root.question", f"is {action.question}", f"use 0 to {len(self._active) - 1}")
        return Origin(self._active[action.question], action.task or self._config.task, action.task is not None)

    def _cancel(self, action: Cancel) -> None:
        """Cancel a branch, unless its end was delivered already. Raises ConfigError if there is no such branch."""
        if not 0 <= action.branch < len(self._requests.branches):
            raise ConfigError("Cancel.branch", f"{action.branch} does not exist", "use a branch number from an event")
        request = self._requests.branches[action.branch]
        if request.delivered or request.cancelled:
            return
        if not self._config.backend.capabilities.per_branch_cancel and request.active is not None:
            request.origin.question.note(NO_CANCEL)
        self._scheduler.cancel(request)

    async def _tell(self, state: State, arrival: Arrival) -> None:
        """Deliver an event to the strategy and the observers, and charge its cost."""
        request, event = arrival
        question = request.origin.question
        if isinstance(event, Progress):
            self._strategy.tell(state, event)
            question.seconds = self._seconds
            return
        completion = request.failed(None) if request.cancelled else event
        completion = await question.record(completion, request.cost, request.origin.task)
        for released in self._first_replies.ended(request, completion):
            self._scheduler.submit(released)
        self._strategy.tell(state, completion)
        question.seconds = self._seconds
        self._reporter.request_ended(request, completion)
        if isinstance(request.action, Extend) and not request.origin.aside and self._reporter.wants_standings:
            self._reporter.standing(question, self._strategy.standing(state, question.index))

    async def _next_arrival(self) -> Arrival | None:
        """Return the next event to deliver, or None if the run is over. `_early_end` then says if it ended early."""
        while not self._ends_early() and self._requests.outstanding:
            if (arrival := self._requests.next()) is not None:
                return arrival
            await self._wait()
            if self._scheduler.internal_error is not None:
                raise self._scheduler.internal_error
            self._scheduler.start_branches()  # a branch that ended may have returned a part of its lease
        return None

    def _ends_early(self) -> bool:
        remaining = self._seconds_remaining()
        if self._config.stop.is_set:
            self._early_end = Outcome.CANCELLED
        elif remaining is not None and remaining <= 0:
            self._early_end = Outcome.SECONDS_SPENT
        if not self._requests.outstanding:
            self._early_end = None  # there is nothing left to end
        return self._early_end is not None

    @property
    def _seconds(self) -> float:
        """Seconds since the run started."""
        return self._config.clock() - self._started

    def _seconds_remaining(self) -> float | None:
        limit = self._config.budget.seconds
        return None if limit is None else self._started + limit - self._config.clock()

    async def _wait(self) -> None:
        """Wait until something arrives or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds_remaining()):
                await self._requests.changed.wait()
        self._requests.changed.clear()

    @contextlib.contextmanager
    def _woken_by_stop(self) -> Iterator[None]:
        """Wake the loop when `config.stop` is set, from whichever thread."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so the run is over
                loop.call_soon_threadsafe(self._requests.changed.set)

        self._config.stop.listen(wake)
        try:
            yield
        finally:
            self._config.stop.unlisten(wake)

    def _report_raised(self, error: BaseException) -> None:
        """Charge what was under way when the run raised, and report its end to the observers."""
        for request, _ in self._requests.drain():
            request.origin.question.usage += request.cost.lost()
            self._reporter.request_ended(request, request.failed(None))
        for question in self.questions:
            question.seconds = self._seconds
            self._reporter.question_ended(question, None, error)
        self._reporter.run_ended()
