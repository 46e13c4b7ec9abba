"""Starting what was asked for: branches as far as the budget pays, everything else at once."""

import asyncio
import inspect
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import replace

from branchwise.backends.stream import Tokens
from branchwise.core.budget import BudgetAllocator
from branchwise.core.errors import BackendError, BranchwiseError, BudgetError, CallError
from branchwise.core.keys import root_key
from branchwise.core.path import Path, StopReason
from branchwise.core.result import Outcome
from branchwise.core.usage import Usage
from branchwise.driver.attempts import retry
from branchwise.driver.degrade import NO_SCORES, fit_sampling, note_start
from branchwise.driver.growth import Brief, Grown, grow
from branchwise.driver.reporter import Reporter
from branchwise.driver.roots import Roots
from branchwise.driver.setup import Setup
from branchwise.driver.watch import Watch
from branchwise.driver.work import Item, WorkList
from branchwise.strategies.actions import (
    Completion,
    Extend,
    Finished,
    Progress,
    Root,
    Rooted,
    Score,
    Scored,
    Verified,
    Verify,
)

GRACE_SECONDS = 10.0
"""Seconds a halted run waits for its backend to stop; see Budget.seconds."""


class Launch:
    """Runs items as tasks. What comes of them arrives in the work list."""

    def __init__(self, setup: Setup, work: WorkList, roots: Roots, report: Reporter) -> None:
        self.grown: list[Path] = []
        """Every path that was grown, kept or not."""
        self.bug: BaseException | None = None
        """What went wrong in a task and is nobody's but the driver's fault."""
        self._setup, self._work, self._roots, self._report = setup, work, roots, report
        self._allocator = BudgetAllocator(setup.budget)
        self._queue: deque[Item] = deque()  # branches that were not started
        self._tasks: dict[asyncio.Task[None], Item] = {}
        self._checking = asyncio.Lock()

    def start(self, item: Item) -> None:
        """Start an item; a branch only in its turn, with `start_branches`."""
        if isinstance(item.action, Extend):
            self._queue.append(item)
            return
        self._report.started(item)
        self._spawn(item, self._answer(item))

    def start_branches(self) -> None:
        """Start branches in the order in which they were asked for, as far as the budget pays."""
        while self._queue:
            action = self._queue[0].action
            assert isinstance(action, Extend)
            batch: list[Item] = []
            limit = self._limit(action)
            while self._queue and self._queue[0].action is action:
                item = self._queue[0]
                if not item.cancelled:
                    granted = self._allocator.lease(limit)
                    if granted is None:
                        break
                    if granted == 0:
                        self._refuse(item)
                    else:
                        item.lease, item.short = granted, granted < limit
                        batch.append(item)
                self._queue.popleft()
            if batch:
                self._start_request(batch, action)
            elif self._queue and self._queue[0].action is action:
                return

    def cancel(self, item: Item) -> None:
        """Stop a branch that is not wanted any more; what it comes to is told as cancelled."""
        item.cancelled = True
        if item.growth is not None:
            item.growth.cancel()
        elif item.event is None:
            item.event = item.failed(None)

    async def halt(self) -> None:
        """Stop everything under way and wait for the backend to account for it, as long as that is bearable."""
        self._queue.clear()
        for task, item in self._tasks.items():
            if item.growth is not None:
                item.growth.cancel()
            else:
                task.cancel()
        if not self._tasks:
            return
        _, stuck = await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
        for task in stuck:
            item = self._tasks.pop(task)
            task.cancel()
            if item.growth is not None:
                self._settle(item, item.growth.abandoned())

    def _limit(self, action: Extend) -> int:
        """Most tokens a branch of `action` may take."""
        wanted = action.sampling.max_tokens or self._roots.origin(action.path).task.max_tokens
        room = self._setup.backend.capabilities.context - len(action.path.root.token_ids) - action.path.generated
        return max(1, min(wanted, room))

    def _refuse(self, item: Item) -> None:
        paths = self._allocator.paths_exhausted
        item.event = item.failed(BudgetError("budget_paths" if paths else "budget_tokens"))
        item.origin.account.cut_short(Outcome.PATHS_SPENT if paths else Outcome.TOKENS_SPENT)

    def _start_request(self, batch: Sequence[Item], action: Extend) -> None:
        """Start the branches of one request."""
        backend, origin = self._setup.backend, batch[0].origin
        note_start(action.path, backend.capabilities, origin.account.note)
        sampling = fit_sampling(action.sampling, backend.capabilities, origin.account.note)
        sampling = replace(sampling, max_tokens=batch[0].lease, stop=(*sampling.stop, *origin.task.stop))
        brief = Brief(backend, action.path, sampling, origin.task.thinking, action.priority)
        for item, growth in zip(batch, grow(brief, [item.key for item in batch]), strict=True):
            item.growth = growth
            if action.watch_every is not None:
                growth.watch = Watch(action.watch_every)
            self._report.started(item, sampling)
            self._spawn(item, self._follow(item, action))

    async def _follow(self, item: Item, action: Extend) -> None:
        """See a branch to its end."""
        growth, branch, question = item.growth, item.branch, item.origin.account.question
        assert growth is not None
        assert branch is not None

        def on_tokens(event: Tokens) -> None:
            self._report.grew(item, event)
            for piece in growth.watch.pieces() if growth.watch is not None else ():
                self._work.arrive(item, Progress(question, action, branch, *piece))

        self._settle(item, await growth.run(on_tokens))

    def _settle(self, item: Item, grown: Grown) -> None:
        """Account for a branch that ended."""
        assert isinstance(item.action, Extend)
        assert item.branch is not None
        origin, path, cost = item.origin, grown.path, grown.cost
        self._allocator.release(item.lease, cost.sampled)
        self.grown.append(path)
        if not grown.finished:
            self._work.arrive(item, item.failed(grown.error), cost)
            return
        if item.short and path.stop_reason is StopReason.LENGTH:
            origin.account.cut_short(Outcome.TOKENS_SPENT)
        end = Finished(origin.account.question, item.action, item.branch, path, None, (), cost, origin.aside)
        self._work.arrive(item, end, cost)

    async def _answer(self, item: Item) -> None:
        """Run a score, a check or a prompt."""
        action, question = item.action, item.origin.account.question
        event: Completion
        cost = Usage()
        try:
            if isinstance(action, Score):
                event, cost = await self._score(item, action)
            elif isinstance(action, Verify):
                event = Verified(question, action, await self._verify(action.path))
            else:
                assert isinstance(action, Root)
                event = Rooted(question, action, await self._root(item, action))
        except BranchwiseError as error:
            event = item.failed(error)
        self._work.arrive(item, event, cost)

    async def _score(self, item: Item, action: Score) -> tuple[Scored, Usage]:
        backend, account = self._setup.backend, item.origin.account
        if not backend.capabilities.score:
            account.note(NO_SCORES)
            raise BackendError("score: the backend can't", retryable=False, hint="use one that scores given texts")
        scores = await retry("score", lambda: backend.score(action.path, action.continuations))
        return Scored(account.question, action, scores.logprobs), scores.cost

    async def _verify(self, path: Path) -> float:
        verifier = self._setup.verifier
        assert verifier is not None  # asked for when the action was taken
        try:
            of_object = type(verifier).__call__
            if inspect.iscoroutinefunction(verifier) or inspect.iscoroutinefunction(of_object):
                score = verifier(path)
            else:
                async with self._checking:
                    score = await asyncio.to_thread(verifier, path)
            return float(await score if inspect.isawaitable(score) else score)
        except BranchwiseError:
            raise
        except Exception as error:
            raise CallError("verifier", error) from error

    async def _root(self, item: Item, action: Root) -> Path:
        key = root_key(self._setup.seed, action.messages.model_dump_json())
        path = await retry("root", lambda: self._setup.backend.root(action.messages, key))
        return self._roots.add(path, item.origin)

    def _spawn(self, item: Item, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = item
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        """Keep what went wrong for the run to raise: nothing else would see it."""
        self._tasks.pop(task, None)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self.bug = bug
            self._work.changed.set()
