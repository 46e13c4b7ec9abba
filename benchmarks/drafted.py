"""Timed runs of the engine with exchangeable drafters, over the same questions and keys."""

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

MAX_FINISHED = 7  # siblings of a question
_WARM_TOKENS = 8


@dataclass(frozen=True)
class Work:
    """Branches decoded side by side, after `finished` siblings of the same question."""

    workload: str
    branches: int
    finished: int = 0
    temperature: float = 0.7


@dataclass(frozen=True)
class Drafts:
    """Drafters and draft budget of a run; without drafters, speculation is off."""

    drafters: tuple[str, ...] = ()
    budget: int | None = None

    @property
    def name(self) -> str:
        return "+".join(self.drafters) or "off"


@dataclass(frozen=True)
class Measured:
    """Measurement of one run."""

    seconds: float
    drafting: float  # seconds of them, in propose() and observe()
    first: int  # tokens sampled before the clock started
    usage: Usage

    @property
    def speed(self) -> float:
        """Tokens per second since every branch had its first token."""
        return (self.usage.sampled - self.first) / self.seconds


class TimedSpeculator(Speculator):
    """Speculator that measures its own time."""

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
    """Drafter that proposes nothing and records the sampled tokens for later drafters."""

    name = "recorder"

    def __init__(self) -> None:
        self.recorded: dict[EngineBranch, list[int]] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        return

    def observe(self, branch: EngineBranch, tokens: Sequence[int]) -> None:
        self.recorded.setdefault(branch, []).extend(tokens)


class Bench:
    """An engine whose speculator is exchanged between runs."""

    def __init__(self, engine: Engine, new_tokens: int, sibling_tokens: int) -> None:
        """Limit measured branches to `new_tokens` tokens and siblings to `sibling_tokens`."""
        self._engine = engine
        self._new_tokens = new_tokens
        self._sibling_tokens = sibling_tokens
        self._budgets: dict[Drafts, DraftBudget] = {}
        self._siblings: dict[tuple[str, float], Mapping[EngineBranch, Sequence[int]]] = {}

    async def measure(self, question: str, work: Work, drafts: Drafts) -> Measured:
        """Run one question and return its measurement.

        Before the clock starts, the drafters observe all recorded branches of other questions and `work.finished`
        siblings of this one.
        """
        if work.finished:
            await self._record(question, work.temperature)
        drafters = [self._engine.drafter(name) for name in drafts.drafters]
        for (other, temperature), recorded in self._siblings.items():
            known = work.finished if other == question else MAX_FINISHED
            if temperature == work.temperature:
                for branch, tokens in islice(recorded.items(), known):
                    for drafter in drafters:
                        drafter.observe(branch, tokens)
                        drafter.release(branch)
        if drafts not in self._budgets:
            self._budgets[drafts] = self._engine.draft_budget(drafts.budget)
        speculator = TimedSpeculator(drafters, self._budgets[drafts])
        self._engine.set_speculator(speculator if drafters else None)
        measured = await self._generate(question, range(work.branches), work.temperature, self._new_tokens)
        return replace(measured, drafting=speculator.seconds)

    async def warm_up(self, question: str, work: Work) -> None:
        """Run a few tokens, so that first-use setup is not measured."""
        self._engine.set_speculator(None)
        await self._generate(question, range(work.branches), work.temperature, _WARM_TOKENS)

    async def _record(self, question: str, temperature: float) -> None:
        """Record siblings of a question once; every kind of drafts observes the same ones."""
        if (question, temperature) not in self._siblings:
            recorder = Recorder()
            self._engine.set_speculator(Speculator([recorder], FixedBudget(0)))
            await self._generate(question, range(1000, 1000 + MAX_FINISHED), temperature, self._sibling_tokens)
            self._siblings[question, temperature] = recorder.recorded

    async def _generate(self, question: str, copies: Sequence[int], temperature: float, new_tokens: int) -> Measured:
        """Generate `copies` branches with an empty cache and return the measurement."""
        self._engine.clear()
        root = await self._engine.root(TASKS["math"].render(question), key=1)
        sampling = bw.Sampling(temperature=temperature, max_tokens=new_tokens)
        keys = tuple(child_key(1, copy) for copy in copies)
        waiting = set(range(len(keys)))
        usage = Usage()
        first = 0
        began = time.perf_counter()
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
