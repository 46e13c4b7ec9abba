"""Run strategies over questions and score their answers."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from branchwise.answers.groups import AnswerGroups
from branchwise.backends.base import Backend
from branchwise.driver.solve import solve
from branchwise.driver.stop import Stop
from branchwise.errors import ConfigError
from branchwise.evaluation.dataset import Row
from branchwise.result import Outcome, Result
from branchwise.strategy import AnyStrategy
from branchwise.usage import Usage


@dataclass(frozen=True, slots=True)
class Scored:
    """A question, what came of it, and whether it is right."""

    row: Row
    result: Result
    correct: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """One strategy over all questions."""

    strategy: str
    scored: tuple[Scored, ...]
    seconds: float  # wall-clock of all questions together

    @property
    def accuracy(self) -> float:
        return sum(item.correct for item in self.scored) / len(self.scored)

    @property
    def usage(self) -> Usage:
        return sum((item.result.usage for item in self.scored), Usage())


async def evaluate(
    rows: Sequence[Row],
    strategies: Mapping[str, AnyStrategy],
    backend: Backend,
    *,
    seed: int,
    concurrency: int,
    on_scored: Callable[[str, Scored], None],
    stop: Stop,
) -> list[Summary]:
    """Each strategy over every question, `concurrency` questions at a time, strategies one after another.

    What the backend holds is dropped between strategies, so that none is charged less for coming later.
    Questions that `stop` cuts short are not scored; those the model cannot take are wrong answers.
    """
    summaries = []
    for name, strategy in strategies.items():
        backend.clear()
        began = time.monotonic()
        gate = asyncio.Semaphore(concurrency)

        async def one(
            row: Row, name: str = name, strategy: AnyStrategy = strategy, gate: asyncio.Semaphore = gate
        ) -> Scored | None:
            async with gate:
                if stop.is_set:
                    return None
                result = await _solve(row, strategy, backend, seed, stop)
                if result.outcome is Outcome.CANCELLED:
                    return None
                scored = Scored(row, result, await is_correct(row, result.answer))
                on_scored(name, scored)
                return scored

        scored = [item for item in await asyncio.gather(*map(one, rows)) if item is not None]
        if scored:
            summaries.append(Summary(name, tuple(scored), time.monotonic() - began))
    return summaries


async def _solve(row: Row, strategy: AnyStrategy, backend: Backend, seed: int, stop: Stop) -> Result:
    """One question; a prompt too long for the model fails alone."""
    try:
        return await solve(row.question, backend, strategy=strategy, task=row.task, seed=seed, stop=stop)
    except ConfigError as error:
        if error.field != "question":
            raise
        return Result(None, None, {}, Outcome.FAILED, Usage(), errors=(str(error),))


async def is_correct(row: Row, answer: str | None) -> bool:
    """Whether an answer means the same as the row's reference."""
    if answer is None:
        return False
    groups = AnswerGroups(row.task.format)
    return await groups.place(answer) == await groups.place(row.answer)
