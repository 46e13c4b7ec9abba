"""Start requests: branches in issue order as far as the budget allows, everything else at once.

The run submits requests; completions and progress arrive in the request queue.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.stream import Tokens
from branchwise.core.budget import Budget, BudgetAllocator
from branchwise.core.errors import BranchwiseError, BudgetError, CallError, UnsupportedError
from branchwise.core.keys import root_key
from branchwise.core.path import Path, StopReason
from branchwise.core.result import Outcome
from branchwise.driver.branch import ActiveBranch, start_branches
from branchwise.driver.events import Reporter
from branchwise.driver.fallbacks import NO_SCORES, fit_sampling, note_retokenization, retry
from branchwise.driver.requests import PendingRequest, RequestQueue, Roots
from branchwise.strategies.actions import Completion, Extend, Root, Rooted, Score, Scored, Verified, Verify

GRACE_SECONDS = 10.0
"""Seconds that a halted run waits for its backend to stop; see Budget.seconds."""

Verifier = Callable[[Path], float | Awaitable[float]]
"""Scores a path. A plain function is called in a thread, for one path at a time; an async one is awaited, for all
paths at once."""


def is_async(function: Callable[..., object]) -> bool:
    """Return whether a call of the function, or of the object's `__call__`, must be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Scheduler:
    """Runs each request as an asyncio task."""

    def __init__(
        self,
        backend: Backend,
        budget: Budget,
        *,
        seed: int,
        verifier: Verifier | None,
        requests: RequestQueue,
        roots: Roots,
        reporter: Reporter,
    ) -> None:
        self.sampled_paths: list[Path] = []
        """The path of every branch that was started, finished or not."""
        self.internal_error: BaseException | None = None
        """The exception of a task, which only a bug in the driver causes."""
        self._backend = backend
        self._budget = BudgetAllocator(budget)
        self._seed = seed
        self._verifier = verifier
        self._verifier_lock = asyncio.Lock()
        self._requests = requests
        self._roots = roots
        self._reporter = reporter
        self._waiting: deque[PendingRequest] = deque()  # branches that were not started
        self._tasks: dict[asyncio.Task[None], PendingRequest] = {}

    def submit(self, request: PendingRequest) -> None:
        """Start a request. A branch waits for `start_branches`."""
        if isinstance(request.action, Extend):
            self._waiting.append(request)
            return
        self._reporter.request_started(request)
        self._spawn(request, self._answer(request))

    def start_branches(self) -> None:
        """Start waiting branches in issue order, as far as the budget allows."""
        while self._waiting:
            action = self._waiting[0].action
            assert isinstance(action, Extend)
            batch = self._lease(action)
            if batch:
                self._start(batch, action)
            elif self._waiting and self._waiting[0].action is action:
                return  # until a running branch returns a part of its lease

    def cancel(self, request: PendingRequest) -> None:
        """Stop a branch; its completion will be that of a cancelled one."""
        request.cancelled = True
        if request.active is not None:
            request.active.cancel()
        elif request.completion is None:
            request.completion = request.failed(None)

    async def halt(self) -> None:
        """Stop everything under way. Wait at most GRACE_SECONDS for the backend to report costs."""
        self._waiting.clear()
        for task, request in self._tasks.items():
            if request.active is not None:
                request.active.cancel()
            else:
                task.cancel()
        if not self._tasks:
            return
        _, stuck = await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
        for task in stuck:
            request = self._tasks.pop(task)
            task.cancel()
            if request.active is not None:
                request.active.abandon()
                self._complete(request, request.active)

    def _lease(self, action: Extend) -> list[PendingRequest]:
        """Remove the waiting branches of `action` that can start from the queue; return those that the budget pays."""
        batch = []
        limit = self._max_tokens(action)
        while self._waiting and self._waiting[0].action is action:
            request = self._waiting[0]
            if not request.cancelled:
                granted = self._budget.lease(limit)
                if granted is None:
                    break
                if granted == 0:
                    self._refuse(request)
                else:
                    request.lease = granted
                    request.lease_reduced = granted < limit
                    batch.append(request)
            self._waiting.popleft()
        return batch

    def _max_tokens(self, action: Extend) -> int:
        """Return the most tokens that a branch of `action` may sample."""
        wanted = action.sampling.max_tokens or self._roots.origin(action.path).task.max_tokens
        prompt = len(action.path.root.token_ids)
        return max(1, min(wanted, self._backend.capabilities.context - prompt - action.path.generated))

    def _refuse(self, request: PendingRequest) -> None:
        paths = self._budget.paths_exhausted
        request.completion = request.failed(BudgetError("budget_paths" if paths else "budget_tokens"))
        request.origin.question.end_early(Outcome.PATHS_SPENT if paths else Outcome.TOKENS_SPENT)

    def _start(self, batch: Sequence[PendingRequest], action: Extend) -> None:
        """Start branches of one action in one request to the backend."""
        capabilities, origin, lease = self._backend.capabilities, batch[0].origin, batch[0].lease
        note_retokenization(action.path, capabilities, origin.question.note)
        sampling = fit_sampling(action.sampling, capabilities, origin.question.note)
        sampling = replace(sampling, max_tokens=lease, stop=(*sampling.stop, *origin.task.stop))
        keys = tuple(request.key for request in batch)
        extend = ExtendRequest(action.path, keys, sampling, action.priority)
        for request, active in zip(batch, start_branches(self._backend, extend, origin.task.thinking), strict=True):
            request.active = active
            self._reporter.request_started(request, sampling)
            self._spawn(request, self._follow(request, action, active))

    async def _follow(self, request: PendingRequest, action: Extend, active: ActiveBranch) -> None:
        """Run a branch to its end."""
        question, branch = request.origin.question.index, request.branch
        assert branch is not None

        def on_tokens(event: Tokens) -> None:
            self._reporter.branch_grew(request, event)
            for progress in active.tokens.new_progress(question, action, branch):
                self._requests.arrive(request, progress)

        await active.run(on_tokens)
        self._complete(request, active)

    def _complete(self, request: PendingRequest, active: ActiveBranch) -> None:
        """Charge a branch that ended, and add its completion."""
        self._budget.release(request.lease, active.cost.sampled)
        self.sampled_paths.append(active.path)
        request.cost = active.cost
        if not active.finished:
            self._requests.arrive(request, request.failed(active.error))
            return
        if request.lease_reduced and active.path.stop_reason is StopReason.LENGTH:
            request.origin.question.end_early(Outcome.TOKENS_SPENT)
        self._requests.arrive(request, request.finished(active))

    async def _answer(self, request: PendingRequest) -> None:
        """Run a score, a verification or a prompt."""
        action, question = request.action, request.origin.question.index
        event: Completion
        try:
            if isinstance(action, Score):
                event = await self._score(request, action)
            elif isinstance(action, Verify):
                event = Verified(question, action, await self._verify(action.path))
            else:
                assert isinstance(action, Root)
                event = Rooted(question, action, await self._root(request, action))
        except BranchwiseError as error:
            event = request.failed(error)
        self._requests.arrive(request, event)

    async def _score(self, request: PendingRequest, action: Score) -> Scored:
        question = request.origin.question
        if not self._backend.capabilities.score:
            question.note(NO_SCORES)
            raise UnsupportedError("score: unsupported by the backend", hint="use one that scores given texts")
        scores = await retry("score", lambda: self._backend.score(action.path, action.continuations))
        request.cost = scores.cost
        return Scored(question.index, action, scores.logprobs)

    async def _verify(self, path: Path) -> float:
        verifier = self._verifier
        assert verifier is not None  # checked when the action was taken
        try:
            if is_async(verifier):
                score = verifier(path)
            else:
                async with self._verifier_lock:
                    score = await asyncio.to_thread(verifier, path)
            return float(await score if inspect.isawaitable(score) else score)
        except BranchwiseError:
            raise
        except Exception as error:
            raise CallError("verifier", error) from error

    async def _root(self, request: PendingRequest, action: Root) -> Path:
        key = root_key(self._seed, action.messages.model_dump_json())
        path = await retry("root", lambda: self._backend.root(action.messages, key))
        return self._roots.add(path, request.origin)

    def _spawn(self, request: PendingRequest, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = request
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        """Keep a task's exception for the run to raise; nothing else would report it."""
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.internal_error = error
            self._requests.changed.set()
