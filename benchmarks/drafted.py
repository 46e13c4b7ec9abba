"""Runs of the engine with one kind of drafts or another, over the same questions and with the same keys."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.speculation.draft import Draft
from branchwise.backends.engine.speculation.draft_budget import DraftBudget, FixedBudget
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.backends.engine.speculation.verify import Verification
from branchwise.backends.stream import Broken, Tokens
from branchwise.core.keys import child_key
from branchwise.core.usage import Usage
from branchwise.prompts.library import TASKS

MOST_FINISHED = 7  # siblings of a question
_WARM_TOKENS = 8


@dataclass(frozen=True)
class Work:
    """Branches that are decoded side by side, after some of the same question have finished."""

    workload: str
    branches: int
    finished: int = 0
    temperature: float = 0.7


@dataclass(frozen=True)
class Drafts:
    """Who drafts, and how much; no drafters: nobody."""

    drafters: tuple[str, ...] = ()
    budget: int | None = None

    @property
    def name(self) -> str:
        return "+".join(self.drafters) or "off"


@dataclass(frozen=True)
class Measured:
    """One run."""

    seconds: float
    drafting: float  # of them, spent on proposing and learning
    first: int  # tokens sampled before the clock started
    usage: Usage

    @property
    def speed(self) -> float:
        """Tokens per second, from the moment every branch had its first."""
        return (self.usage.sampled - self.first) / self.seconds


class Timed(Speculator):
    """Speculator that knows how long it took."""

    def __init__(self, drafters: Sequence[Drafter], budget: DraftBudget) -> None:
        super().__init__(drafters, budget)
        self.seconds = 0.0

    def propose(self, groups: Sequence[Sequence[EngineBranch]]) -> list[Draft]:
        began = time.perf_counter()
        drafts = super().propose(groups)
        self.seconds += time.perf_counter() - began
        return drafts

    def observe(self, verified: Verification, count: int) -> None:
        began = time.perf_counter()
        super().observe(verified, count)
        self.seconds += time.perf_counter() - began


class Recorder(Drafter):
    """Proposes nothing, and records the sampled tokens for later drafters."""

    name = "recorder"

    def __init__(self) -> None:
        self.heard: dict[EngineBranch, list[int]] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        return

    def observe(self, branch: EngineBranch, tokens: Sequence[int]) -> None:
        self.heard.setdefault(branch, []).extend(tokens)


class Bench:
    """One engine; what drafts is exchanged between runs."""

    def __init__(self, engine: Engine, new_tokens: int, sibling_tokens: int) -> None:
        """Most tokens of a branch that is measured, and of a sibling."""
        self._engine, self._new_tokens, self._sibling_tokens = engine, new_tokens, sibling_tokens
        self._budgets: dict[Drafts, DraftBudget] = {}
        self._siblings: dict[tuple[str, float], Mapping[EngineBranch, Sequence[int]]] = {}

    async def measure(self, question: str, work: Work, drafts: Drafts) -> Measured:
        """One question. What other branches drew is known before the clock starts: all that was recorded of other
        questions, and as many siblings as the work asks for."""
        if work.finished:
            await self._record(question, work.temperature)
        drafters = [self._engine.drafter(name) for name in drafts.drafters]
        for (asked, temperature), heard in self._siblings.items():
            known = work.finished if asked == question else MOST_FINISHED
            if temperature == work.temperature:
                for branch, tokens in islice(heard.items(), known):
                    for drafter in drafters:
                        drafter.observe(branch, tokens)
                        drafter.release(branch)
        if drafts not in self._budgets:
            self._budgets[drafts] = self._engine.draft_budget(drafts.budget)
        drafting = Timed(drafters, self._budgets[drafts])
        self._engine.set_speculator(drafting if drafters else None)
        done = await self._grow(question, range(work.branches), work.temperature, self._new_tokens)
        return replace(done, drafting=drafting.seconds)

    async def warm_up(self, question: str, work: Work) -> None:
        """Whatever is set up on first use."""
        self._engine.set_speculator(None)
        await self._grow(question, range(work.branches), work.temperature, _WARM_TOKENS)

    async def _record(self, question: str, temperature: float) -> None:
        """Siblings of a question: the same for every kind of drafts."""
        if (question, temperature) not in self._siblings:
            recorder = Recorder()
            self._engine.set_speculator(Speculator([recorder], FixedBudget(0)))
            await self._grow(question, range(1000, 1000 + MOST_FINISHED), temperature, self._sibling_tokens)
            self._siblings[question, temperature] = recorder.heard

    async def _grow(self, question: str, copies: Sequence[int], temperature: float, new_tokens: int) -> Measured:
        """Nothing is held of earlier runs."""
        self._engine.clear()
        root = await self._engine.root(TASKS["math"].render(question), key=1)
        sampling = bw.Sampling(temperature=temperature, max_tokens=new_tokens)
        keys = tuple(child_key(1, copy) for copy in copies)
        waiting, began, usage, first = set(range(len(keys))), time.perf_counter(), Usage(), 0
        async for event in self._engine.extend(ExtendRequest(root, keys, sampling)):
            if isinstance(event, Tokens):
                if event.copy in waiting:
                    waiting.remove(event.copy)
                    first += event.count
                    began = time.perf_counter()
                continue
            if isinstance(event, Broken):
                raise event.error
            usage += event.cost
        return Measured(time.perf_counter() - began, 0.0, first, usage)
