"""Run strategies over questions and grade their answers."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from branchwise.answers.groups import AnswerGroups
from branchwise.backends.base import Backend
from branchwise.driver.solve import solve
from branchwise.driver.stop import Stop
from branchwise.errors import CallError, ConfigError
from branchwise.evaluation.dataset import Row
from branchwise.result import Outcome, Result
from branchwise.strategy import AnyStrategy
from branchwise.usage import Usage


@dataclass(frozen=True, slots=True)
class Graded:
    """A question, what came of it, and whether it is right. `result.outcome` says whether it failed."""

    row: Row
    result: Result
    correct: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """One strategy over all questions."""

    strategy: str
    graded: tuple[Graded, ...]
    seconds: float  # wall-clock of all questions together

    @property
    def accuracy(self) -> float:
        return sum(item.correct for item in self.graded) / len(self.graded)

    @property
    def usage(self) -> Usage:
        return sum((item.result.usage for item in self.graded), Usage())


@dataclass(frozen=True, slots=True)
class _Session:
    """What all questions of one strategy have in common."""

    name: str
    strategy: AnyStrategy
    backend: Backend
    seed: int
    stop: Stop
    gate: asyncio.Semaphore
    on_graded: Callable[[str, Graded], None]

    async def answer(self, row: Row) -> Graded | None:
        """One question in its turn; None where it was cut short by the stop."""
        async with self.gate:
            if self.stop.is_set:
                return None
            result = await self._solve(row)
            if result.outcome is Outcome.CANCELLED:
                return None
            graded = await _grade(row, result)
            self.on_graded(self.name, graded)
            return graded

    async def _solve(self, row: Row) -> Result:
        """One question; whatever is wrong with it fails alone. Raises ConfigError for a mistake in the setup."""
        try:
            return await solve(
                row.question, self.backend, strategy=self.strategy, task=row.task, seed=self.seed, stop=self.stop
            )
        except ConfigError as error:
            if error.field != "question":
                raise
            return _failed(str(error))
        except Exception as error:  # a bug that one question brings to light
            return _failed(str(CallError(f"strategy {self.name}", error)))


async def evaluate(
    rows: Sequence[Row],
    strategies: Mapping[str, AnyStrategy],
    backend: Backend,
    *,
    seed: int,
    concurrency: int,
    on_graded: Callable[[str, Graded], None],
    stop: Stop,
) -> list[Summary]:
    """Each strategy over every question, `concurrency` questions at a time, strategies one after another.

    What the backend holds is dropped between strategies, so that none is charged less for coming later.
    Questions that `stop` cuts short are not graded; those that fail are wrong answers, and their results
    say why. Raises ConfigError for a mistake in the setup, and whatever `on_graded` raises.
    """
    summaries = []
    for name, strategy in strategies.items():
        backend.clear()
        began = time.monotonic()
        session = _Session(name, strategy, backend, seed, stop, asyncio.Semaphore(concurrency), on_graded)
        graded = [item for item in await _all(session, rows) if item is not None]
        if graded:
            summaries.append(Summary(name, tuple(graded), time.monotonic() - began))
    return summaries


async def _all(session: _Session, rows: Sequence[Row]) -> list[Graded | None]:
    """Every question; the first error that is not a question's own stops the others, and is raised."""
    tasks = [asyncio.create_task(session.answer(row)) for row in rows]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failed(why: str) -> Result:
    return Result(None, None, {}, Outcome.FAILED, Usage(), errors=(why,))


async def _grade(row: Row, result: Result) -> Graded:
    """Grade an answer; one that the format can't compare is wrong, and the result says so."""
    try:
        return Graded(row, result, await is_correct(row, result.answer))
    except Exception as error:
        why = str(CallError(f"task {row.task.name}", error))
        return Graded(row, replace(result, errors=(*result.errors, why)), correct=False)


async def is_correct(row: Row, answer: str | None) -> bool:
    """Whether an answer means the same as the row's reference."""
    if answer is None:
        return False
    groups = AnswerGroups(row.task.format)
    return await groups.place(answer) == await groups.place(row.answer)
