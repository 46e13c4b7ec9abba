"""One run: the loop between a strategy and a backend."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from branchwise.actions import (
    Action,
    Cancel,
    Extend,
    Failed,
    Finished,
    Progress,
    Root,
    Rooted,
    Score,
    Scored,
    Verified,
    Verify,
)
from branchwise.answers.groups import AnswerGroups
from branchwise.backends.base import Backend
from branchwise.backends.extension import Tokens
from branchwise.budget import Budget, Purse
from branchwise.driver.grow import Grown, Growth
from branchwise.driver.observe import BranchEnded, BranchGrew, BranchStarted, Observer, Standing
from branchwise.driver.stop import Stop
from branchwise.driver.work import Completion, Item, WorkList
from branchwise.errors import BranchwiseError, ConfigError
from branchwise.keys import child_key, root_key
from branchwise.messages import Messages, Question
from branchwise.path import Path
from branchwise.prompts.task import Task
from branchwise.result import Outcome
from branchwise.strategy import Decision, State, Strategy
from branchwise.usage import Usage

Verifier = Callable[[Path], float | Awaitable[float]]

_GRACE_SECONDS = 10.0  # how long a halted run waits for its backend to account for what was cancelled


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything a run needs besides its questions."""

    backend: Backend
    task: Task
    budget: Budget
    seed: int
    verifier: Verifier | None
    observer: Observer | None
    stop: Stop


@dataclass(slots=True)
class Ledger:
    """What one question has cost and given so far."""

    usage: Usage
    finished: list[Finished]
    errors: list[str]
    groups: AnswerGroups
    seconds: float = 0.0


class Run(Generic[State]):
    """Runs one strategy over one or more questions. Use it once."""

    def __init__(self, strategy: Strategy[State], setup: Setup) -> None:
        self.strategy, self.setup = strategy, setup
        self.ledgers: list[Ledger] = []
        self.outcome = Outcome.COMPLETE
        self._work = WorkList()
        self._purse = Purse(setup.budget)
        self._changed = asyncio.Event()
        self._progress: list[Progress] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._children: dict[int, int] = {}  # samples drawn from each key
        self._resumed: set[tuple[int, int]] = set()
        self._questions: dict[Path, int] = {}  # root -> question
        self._paths: list[Path] = []
        self._halted = False
        self._bug: BaseException | None = None
        self._began = time.monotonic()

    async def solve(self, questions: Sequence[Question]) -> Sequence[Decision]:
        """Run to the end; the decision on each question. `ledgers` and `outcome` hold the rest."""
        setup = self.setup
        loop = asyncio.get_running_loop()
        setup.stop.listen(lambda: _wake(loop, self._changed))
        roots = [await self._root(setup.task.render(question), i) for i, question in enumerate(questions)]
        for _ in roots:
            self.ledgers.append(Ledger(Usage(), [], [], AnswerGroups(setup.task.format)))
        state = self.strategy.start(roots)
        try:
            await self._drive(state)
        finally:
            await self._wind_down(state)
        return self.strategy.finish(state)

    # The loop

    async def _drive(self, state: State) -> None:
        while not self._over():
            for action in self.strategy.ask(state):
                self._take(action)
            self._launch()
            if not self._work.open or (self._halted and not self._work.running):
                return
            await self._wait()
            if self._bug is not None:
                raise self._bug
            await self._tell_ready(state)

    def _over(self) -> bool:
        """Whether the run must end now, and why."""
        if self.setup.stop.is_set:
            self.outcome = Outcome.CANCELLED
        elif (left := self._seconds_left()) is not None and left <= 0:
            self.outcome = Outcome.SECONDS_SPENT
        else:
            return False
        return True

    def _seconds_left(self) -> float | None:
        limit = self.setup.budget.seconds
        return None if limit is None else self._began + limit - time.monotonic()

    async def _wait(self) -> None:
        """Until something has changed, or time is up."""
        try:
            async with asyncio.timeout(self._seconds_left()):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _tell_ready(self, state: State) -> None:
        progress, self._progress = self._progress, []
        for event in progress:
            self.strategy.tell(state, event)
        for completion in self._work.ready():
            await self._tell(state, completion)

    async def _tell(self, state: State, event: Completion) -> None:
        question = event.question
        ledger = self.ledgers[question]
        if isinstance(event, Finished):
            text = self.setup.task.extract(event.path)
            answer = None if text is None else await ledger.groups.place(text)
            event = replace(event, answer=answer, steps=self.setup.task.steps(event.path))
            ledger.finished.append(event)
        self.strategy.tell(state, event)
        ledger.seconds = time.monotonic() - self._began
        if self.setup.observer is not None and isinstance(event, Finished | Failed) and event.branch is not None:
            answer = event.answer if isinstance(event, Finished) else None
            self.setup.observer(BranchEnded(question, event.branch, isinstance(event, Finished), answer))
            self.setup.observer(Standing(question, self.strategy.finish(state)[question]))

    async def _wind_down(self, state: State) -> None:
        """Stop what still runs, account for it, and tell what had finished."""
        self._halted = True
        for item in self._work.running:
            if item.growth is not None:
                item.growth.cancel(item.copy)
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_GRACE_SECONDS)
            for task in stuck:
                task.cancel()
        for completion in self._work.rest():
            await self._tell(state, completion)
        self.setup.backend.release(self._paths)

    # Taking actions

    def _take(self, action: Action) -> None:
        if isinstance(action, Cancel):
            self._cancel(action.branch)
            return
        if isinstance(action, Verify) and self.setup.verifier is None:
            raise ConfigError("verifier", f"{self.strategy.name} checks paths but none was given", "pass verifier=")
        question = action.question if isinstance(action, Root) else self._questions[action.path.root]
        if isinstance(action, Extend):
            for key in self._keys(action):
                self._work.add(Item(action, question, key=key))
        else:
            self._work.add(Item(action, question))

    def _keys(self, action: Extend) -> list[int]:
        """The keys of the samples an Extend asks for: never used before, except to resume one."""
        path = action.path
        if action.resume:
            mark = (path.key, path.generated)
            if path.parent is None or mark in self._resumed:
                raise ConfigError("Extend.resume", "the path is a prompt, or was resumed before", "draw a new sample")
            self._resumed.add(mark)
            return [path.key]
        first = self._children.get(path.key, 0)
        self._children[path.key] = first + action.count
        return [child_key(path.key, first + i) for i in range(action.count)]

    def _cancel(self, branch: int) -> None:
        if not 0 <= branch < len(self._work.branches):
            raise ConfigError("Cancel.branch", f"{branch} was never asked for", "use a branch number from an event")
        item = self._work.branches[branch]
        if item.running and item.growth is not None:
            item.growth.cancel(item.copy)
        elif item.event is None:
            item.unwanted = True

    # Launching

    def _launch(self) -> None:
        """Start queued items in order, as far as the budget allows."""
        queued = self._work.queued
        while queued and not self._halted:
            item = queued[0]
            if item.unwanted:
                queued.pop(0)
                self._done(item, Failed(item.question, item.action, item.branch, None))
            elif isinstance(item.action, Extend):
                if not self._launch_branches(item.action):
                    return
            elif not self._launch_other(queued[0]):
                return

    def _launch_branches(self, action: Extend) -> bool:
        """Start as many branches of one action in one request as the budget grants; False to wait."""
        queued, limit = self._work.queued, self._limit(action)
        batch: list[Item] = []
        waiting = False
        while queued and queued[0].action is action and not queued[0].unwanted:
            granted = self._purse.lease(limit, path=True)
            if not granted:
                waiting = granted is None
                self._halted = not waiting
                break
            queued[0].granted = granted
            batch.append(queued.pop(0))
            if granted < limit:
                break
        if batch:
            self._grow(batch, action)
        if self._halted:
            self.outcome = Outcome.PATHS_SPENT if self._purse.paths_spent else Outcome.TOKENS_SPENT
        return not waiting

    def _limit(self, action: Extend) -> int:
        wanted = action.sampling.max_tokens or self.setup.task.max_tokens
        room = self.setup.backend.capabilities.context - len(action.path.root.token_ids) - action.path.generated
        return max(1, min(wanted, room))

    def _grow(self, batch: Sequence[Item], action: Extend) -> None:
        setup = self.setup
        sampling = replace(action.sampling, max_tokens=batch[0].granted, stop=(*action.sampling.stop, *setup.task.stop))
        keys = [item.key for item in batch]
        try:
            growth = Growth(setup.backend, action.path, keys, sampling, setup.task.thinking)
        except BranchwiseError as error:
            for item in batch:
                self._purse.settle(item.granted, 0)
                self._fail(item, error)
            return
        for copy, item in enumerate(batch):
            item.growth, item.copy, item.running = growth, copy, True
            self._observe_start(item)
        self._spawn(self._follow(growth, batch, action))

    def _observe_start(self, item: Item) -> None:
        if self.setup.observer is not None and item.branch is not None:
            self.setup.observer(BranchStarted(item.question, item.branch))

    async def _follow(self, growth: Growth, batch: Sequence[Item], action: Extend) -> None:
        """See one request's branches to their ends."""
        unseen: list[list[Tokens]] = [[] for _ in batch]

        def on_tokens(copy: int, event: Tokens) -> None:
            item = batch[copy]
            if self.setup.observer is not None and item.branch is not None:
                self.setup.observer(BranchGrew(item.question, item.branch, len(event.token_ids), event.text))
            if action.watch_every is not None:
                unseen[copy].append(event)
                if sum(len(e.token_ids) for e in unseen[copy]) >= action.watch_every:
                    self._progress.append(_progress(action, item, unseen[copy]))
                    unseen[copy] = []
                    self._changed.set()

        def on_end(copy: int, grown: Grown) -> None:
            self._settle(batch[copy], grown)

        try:
            await growth.run(on_tokens, on_end)
        except* BranchwiseError as group:
            for item in batch:
                if item.event is None:
                    self._purse.settle(item.granted, 0)
                    self._fail(item, _first(group))

    def _settle(self, item: Item, grown: Grown) -> None:
        """Account for a branch that ended."""
        self._purse.settle(item.granted, grown.cost.sampled)
        self._charge(item.question, grown.cost)
        self._paths.append(grown.path)
        assert isinstance(item.action, Extend)
        assert item.branch is not None
        if grown.error is not None:
            self._fail(item, grown.error)
        elif grown.finished:
            self._done(item, Finished(item.question, item.action, item.branch, grown.path, None, ()))
        else:
            self._done(item, Failed(item.question, item.action, item.branch, None))

    def _launch_other(self, item: Item) -> bool:
        """Start a score, a check or a prompt; False to wait for budget."""
        action = item.action
        if isinstance(action, Score):
            # A token holds at least one byte; one more for tokenizers that mark the start of a text.
            most = sum(len(text.encode()) + 1 for text in action.continuations)
            granted = self._purse.lease(most, path=False)
            if granted is None:
                return False
            if granted < most:
                self._purse.settle(granted, 0) if granted else None
                self._halted, self.outcome = True, Outcome.TOKENS_SPENT
                return False
            item.granted = granted
        self._work.queued.pop(0)
        item.running = True
        self._spawn(self._answer(item))
        return True

    async def _answer(self, item: Item) -> None:
        """Run a score, a check or a prompt."""
        action, spent = item.action, 0
        event: Completion
        try:
            if isinstance(action, Score):
                scores = await self.setup.backend.score(action.path, action.continuations)
                spent = scores.cost.scored
                self._charge(item.question, scores.cost)
                event = Scored(item.question, action, scores.logprobs)
            elif isinstance(action, Verify):
                event = Verified(item.question, action, await self._verify(action.path))
            else:
                assert isinstance(action, Root)
                event = Rooted(item.question, action, await self._root(action.messages, item.question))
        except BranchwiseError as error:
            self._fail(item, error)
        else:
            self._done(item, event)
        finally:
            if isinstance(action, Score):
                self._purse.settle(item.granted, spent)

    async def _verify(self, path: Path) -> float:
        verifier = self.setup.verifier
        assert verifier is not None  # asked for when the action was taken
        try:
            score = verifier(path)
            return float(await score if inspect.isawaitable(score) else score)
        except BranchwiseError:
            raise
        except Exception as error:  # a verifier is the user's code: its failure costs one path, not the run
            raise BranchwiseError(f"verifier: failed with {type(error).__name__}: {error}") from error

    async def _root(self, messages: Messages, question: int) -> Path:
        key = root_key(self.setup.seed, messages.model_dump_json())
        path = await self.setup.backend.root(messages, key)
        self._questions[path] = question
        return path

    # Accounts

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        """Keep what went wrong in a task for the loop to raise: nothing else would see it."""
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bug = bug
            self._changed.set()

    def _charge(self, question: int, cost: Usage) -> None:
        self.ledgers[question].usage += cost

    def _fail(self, item: Item, error: BranchwiseError) -> None:
        self.ledgers[item.question].errors.append(str(error))
        self._done(item, Failed(item.question, item.action, item.branch, error))

    def _done(self, item: Item, event: Completion) -> None:
        item.running = False
        item.event = event
        self._changed.set()


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
        loop.call_soon_threadsafe(changed.set)


def _progress(action: Extend, item: Item, events: Sequence[Tokens]) -> Progress:
    assert item.branch is not None
    return Progress(
        item.question,
        action,
        item.branch,
        tuple(token for event in events for token in event.token_ids),
        tuple(value for event in events for value in event.logprobs or ()),
        tuple(row for event in events for row in event.top_logprobs or ()),
    )


def _first(group: ExceptionGroup[BranchwiseError]) -> BranchwiseError:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BranchwiseError)
    return error
