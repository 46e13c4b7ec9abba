"""One run: the loop between a strategy and a backend.

pose:    each question is a prompt to root; those that can't be are over before the strategy starts
play:    ask, take the actions; then for every single event: tell it, ask, take the actions
finish:  what is under way is stopped, every action that was taken is answered, the decisions are made
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Generic

from branchwise.answers.groups import AnswerGroups
from branchwise.core.errors import ConfigError
from branchwise.core.messages import Question
from branchwise.core.result import Outcome
from branchwise.driver.account import Account
from branchwise.driver.degrade import NO_CANCEL, standing_notes
from branchwise.driver.launch import Launch
from branchwise.driver.reporter import Reporter
from branchwise.driver.roots import Origin, Roots
from branchwise.driver.setup import Setup
from branchwise.driver.work import Item, Told, WorkList
from branchwise.strategies.actions import Action, Cancel, Extend, Failed, Finished, Progress, Root, Rooted, Verify
from branchwise.strategies.strategy import Decision, State, Strategy


class Run(Generic[State]):
    """Runs one strategy over one or more questions. Use it once."""

    def __init__(self, strategy: Strategy[State], setup: Setup) -> None:
        self.strategy, self.setup = strategy, setup
        self.accounts: list[Account] = []
        """One for each question, in order."""
        self.report = Reporter(setup.observer)
        self._asked: list[Account] = []  # those the strategy started with
        self._work = WorkList()
        self._roots = Roots()
        self._launch = Launch(setup, self._work, self._roots, self.report)
        self._ended: Outcome | None = None  # why the run must end before the strategy is done
        self._began = setup.clock()

    async def solve(self, questions: Sequence[Question]) -> list[Decision]:
        """Run to the end; the decision on each question. `accounts` hold the rest."""
        self.report.run_started(len(questions), self.strategy, self.setup)
        try:
            decisions = await self._solve(questions)
        except BaseException as error:
            self._abandon(error)
            raise
        for account, decision in zip(self.accounts, decisions, strict=True):
            self.report.question_ended(account, decision)
        self.report.run_ended()
        return decisions

    async def _solve(self, questions: Sequence[Question]) -> list[Decision]:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
                loop.call_soon_threadsafe(self._work.changed.set)

        self.setup.stop.listen(wake)
        try:
            await self._pose(questions)
            decisions = await self._play() if self._asked else []
        finally:
            self.setup.stop.unlisten(wake)
            await self._launch.halt()  # nothing is left running, whatever happened
            with contextlib.suppress(Exception):  # a favour to the backend: no result is lost for it
                self.setup.backend.release(self._launch.grown)
        decided = {id(account): decision for account, decision in zip(self._asked, decisions, strict=True)}
        return [decided.get(id(account), Decision(None, None)) for account in self.accounts]

    async def _pose(self, questions: Sequence[Question]) -> None:
        """Make each question a prompt. One that can't be fails alone."""
        task = self.setup.task
        for question in questions:
            account = Account(len(self.accounts), AnswerGroups(task.format), len(self.accounts))
            account.notes.update(dict.fromkeys(standing_notes(self.setup.backend.capabilities)))
            self.accounts.append(account)
            self.report.question_started(account)
            try:
                messages = task.render(question)
            except ConfigError as error:
                account.errors.append(error)
                continue
            self._start(Item(Root(messages), Origin(account, task)))
        while (told := await self._next()) is not None:
            account = told.item.origin.account
            if isinstance(told.event, Rooted):
                account.root = told.event.path
            elif isinstance(told.event, Failed) and told.event.error is not None:
                account.errors.append(told.event.error)
        if self._ended is not None:
            await self._launch.halt()
            for account in self.accounts:
                if not account.errors:
                    account.cut_short(self._ended)
            return
        self._asked = [account for account in self.accounts if account.root is not None]
        for place, account in enumerate(self._asked):
            account.question = place

    async def _play(self) -> Sequence[Decision]:
        """The strategy's part, from start to finish."""
        state = self.strategy.start([account.root for account in self._asked if account.root is not None])
        self._ask(state)
        while (told := await self._next()) is not None:
            await self._tell(state, told)
            self._ask(state)
        if self._ended is not None:
            self._cut_open(self._ended)
        await self._launch.halt()
        for told in self._work.rest():
            await self._tell(state, told)
            if self._ended is not None:  # what it would go on with says whether it was done
                self._refuse(self.strategy.ask(state), self._ended)
        if self.strategy.batched and self._ended is not None and any(account.cut for account in self._asked):
            for account in self._asked:  # what one didn't get, another might have got
                account.cut_short(self._ended)
        return self.strategy.finish(state)

    async def _next(self) -> Told | None:
        """What the strategy is to be told now; None where the run ends."""
        while not self._over():
            if self._work.live == 0:
                return None
            if (told := self._work.next()) is not None:
                return told
            await self._wait()
            if self._launch.bug is not None:
                raise self._launch.bug
            self._launch.start_branches()  # a branch that ended may have given back what others wait for
        return None

    def _over(self) -> bool:
        """Whether the run must end now, and why."""
        left = self._seconds_left()
        if self.setup.stop.is_set:
            self._ended = Outcome.CANCELLED
        elif left is not None and left <= 0:
            self._ended = Outcome.SECONDS_SPENT
        if self._ended is not None and self._work.live == 0:
            self._ended = None  # it came to its end by itself
        return self._ended is not None

    def _seconds_left(self) -> float | None:
        limit = self.setup.budget.seconds
        return None if limit is None else self._began + limit - self.setup.clock()

    async def _wait(self) -> None:
        """Until something has arrived, or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds_left()):
                await self._work.changed.wait()
        self._work.changed.clear()

    async def _tell(self, state: State, told: Told) -> None:
        """Account for what came of an item, and tell it."""
        item, event = told
        account = item.origin.account
        if not isinstance(event, Progress):
            event = await account.settle(item.failed(None) if item.cancelled else event, item.cost, item.origin.task)
        self.strategy.tell(state, event)
        account.seconds = self.setup.clock() - self._began
        self.report.ended(item, event)
        ended = isinstance(event, Finished | Failed) and event.branch is not None and not event.aside
        if ended and self.report.standings:
            self.report.stands(account, self.strategy.standing(state, account.question))

    def _abandon(self, error: BaseException) -> None:
        """The run is torn down: account for what was under way, for whoever watches."""
        for item, _ in self._work.rest():
            item.origin.account.usage += item.cost.lost()
            self.report.ended(item, item.failed(None))
        for account in self.accounts:
            account.seconds = self.setup.clock() - self._began
            self.report.question_ended(account, None, error)
        self.report.run_ended()

    def _ask(self, state: State) -> None:
        """Take what the strategy wants now."""
        for action in self.strategy.ask(state):
            self._take(action)
        self._launch.start_branches()

    def _take(self, action: Action) -> None:
        if isinstance(action, Cancel):
            self._cancel(action.branch)
            return
        if isinstance(action, Verify) and self.setup.verifier is None:
            raise ConfigError(
                "verifier", f"{self.strategy.name} checks paths but none was given", "pass one (--verifier)"
            )
        origin = self._origin(action)
        if not isinstance(action, Extend):
            self._start(Item(action, origin))
            return
        for key in self._roots.keys(action):
            self._start(Item(action, origin, key=key, hopeless=origin.account.refused))

    def _start(self, item: Item) -> None:
        self._work.add(item)
        self._launch.start(item)

    def _origin(self, action: Action) -> Origin:
        """Whom an action is for. Raises ConfigError where it is for nobody."""
        if isinstance(action, Cancel):
            return self._branch(action.branch).origin
        if not isinstance(action, Root):
            return self._roots.origin(action.path)
        if not 0 <= action.question < len(self._asked):
            raise ConfigError("Root.question", f"is {action.question}", f"use 0 to {len(self._asked) - 1}")
        return Origin(self._asked[action.question], action.task or self.setup.task, action.task is not None)

    def _branch(self, branch: int) -> Item:
        if not 0 <= branch < len(self._work.branches):
            raise ConfigError("Cancel.branch", f"{branch} was never asked for", "use a branch number from an event")
        return self._work.branches[branch]

    def _cancel(self, branch: int) -> None:
        item = self._branch(branch)
        if item.told or item.cancelled:
            return
        if not self.setup.backend.capabilities.per_branch_cancel and item.growth is not None:
            item.origin.account.note(NO_CANCEL)
        self._launch.cancel(item)

    def _cut_open(self, why: Outcome) -> None:
        """The run ends too early for every question that still has work under way."""
        self._work.take_in()
        for item in self._work.open():
            if item.event is None:
                item.origin.account.cut_short(why)

    def _refuse(self, actions: Sequence[Action], why: Outcome) -> None:
        for action in actions:
            if not isinstance(action, Cancel):
                self._origin(action).account.cut_short(why)
