"""Run strategies over questions and keep what came of each."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from branchwise.backends.base import Backend
from branchwise.backends.recorded.backend import RecordedBackend
from branchwise.core.budget import UNLIMITED, Budget
from branchwise.core.errors import CallError, ConfigError, MissingExtraError
from branchwise.core.result import Outcome, Result
from branchwise.core.usage import Usage
from branchwise.driver import RunEvent, Standing, Stop, Verifier, solve_batch
from branchwise.evaluation.answered import Answered, Point, answered
from branchwise.evaluation.dataset import Row
from branchwise.evaluation.grade import Grade, grade
from branchwise.sandbox.sandbox import SandboxError
from branchwise.strategies.strategy import AnyStrategy


@dataclass(frozen=True, slots=True)
class Plan:
    """What is evaluated: the rows of one file under one strategy after another."""

    data: str
    rows: Sequence[Row]
    strategies: Mapping[str, AnyStrategy]
    seed: int = 0
    concurrency: int = 4
    """Questions answered at a time; a strategy that moves work between questions gets all of them at once."""
    done: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Questions that are left out as they were answered before, by (strategy, id), and with which batch each was. A
    batch that shares its paths is left out where all of it was answered as that batch."""
    verifier: Verifier | None = None
    """Scores paths for strategies that ask for that."""
    budget_tokens: int | None = None
    """Most tokens sampled for a question; a batch of questions has as much for each, and may share it."""


async def evaluate(
    plan: Plan, backend_for: Callable[[str], Backend], on_answered: Callable[[Answered], None], stop: Stop
) -> None:
    """Each strategy over every question, strategies one after another, each on the backend that `backend_for` gives it.

    What a backend holds is dropped before a strategy starts, so that none is charged less for coming later.
    Questions that `stop` cuts short are not told; those that fail are wrong answers, and their errors say why.
    Raises ConfigError for a mistake in the setup, and whatever `on_answered` raises.
    """
    for name, strategy in plan.strategies.items():
        batches = [[row] for row in plan.rows]
        if strategy.batched:  # one for each task
            batches = [list(same) for _, same in groupby(sorted(plan.rows, key=_task_name), key=_task_name)]
        open_ = [
            batch for batch in batches if {plan.done.get((name, row.id)) for row in batch} != {_digest(strategy, batch)}
        ]
        if open_ and not stop.is_set:
            backend = backend_for(name)
            backend.clear()
            await _Session(plan, name, strategy, backend, stop, on_answered).run(open_)


class _Session:
    """One strategy over the questions of one file."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        strategy: AnyStrategy,
        backend: Backend,
        stop: Stop,
        on_answered: Callable[[Answered], None],
    ) -> None:
        self._plan, self._name, self._strategy, self._backend = plan, name, strategy, backend
        self._stop, self._on_answered = stop, on_answered
        self._gate = asyncio.Semaphore(plan.concurrency)

    async def run(self, batches: Sequence[Sequence[Row]]) -> None:
        """Every question; the first error that is not a question's own stops the others, and is raised."""
        tasks = [asyncio.create_task(self._answer(batch)) for batch in batches]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, rows: Sequence[Row]) -> None:
        """Questions in their turn; those cut short by the stop are left out."""
        async with self._gate:
            if self._stop.is_set:
                return
            standings: list[list[Standing]] = [[] for _ in rows]
            batch = _digest(self._strategy, rows)

            def observe(event: RunEvent) -> None:
                if isinstance(event, Standing):
                    standings[event.question].append(event)

            for row, result, stood in zip(rows, await self._solve(rows, observe), standings, strict=True):
                self._check_record()
                if result.outcome is not Outcome.CANCELLED:
                    self._on_answered(await self._graded(row, result, stood, batch))

    async def _solve(self, rows: Sequence[Row], observe: Callable[[RunEvent], None]) -> Sequence[Result]:
        """Whatever is wrong with a question fails alone. Raises ConfigError for a mistake in the setup."""
        try:
            return await solve_batch(
                [row.question for row in rows],
                self._backend,
                strategy=self._strategy,
                task=rows[0].task,
                budget=self._budget(len(rows)),
                seed=self._plan.seed,
                verifier=self._plan.verifier,
                observer=observe,
                stop=self._stop,
            )
        except ConfigError:
            raise
        except Exception as error:  # a bug that one question brings to light
            why = str(CallError(f"strategy {self._name}", error))
            return [Result(None, None, {}, Outcome.FAILED, Usage(), errors=(why,)) for _ in rows]

    def _budget(self, questions: int) -> Budget:
        limit = self._plan.budget_tokens
        return UNLIMITED if limit is None else Budget(tokens=limit * questions)

    async def _graded(self, row: Row, result: Result, stood: Sequence[Standing], batch: str) -> Answered:
        """Grade an answer; one that the format can't compare is wrong, and the errors say so. Raises what is wrong with
        the setup."""
        votes = [branch.answer.value for branch in result.paths if branch.answer is not None]
        leaders = [one.decision.answer.value for one in stood if one.decision.answer is not None]
        try:
            graded = await grade(row, result.answer, [*votes, *leaders])
        except (ConfigError, MissingExtraError, SandboxError):
            raise
        except Exception as error:
            why = str(CallError(f"task {row.task.name}", error))
            result, graded = replace(result, errors=(*result.errors, why)), Grade(False, {}, {})
        return answered(
            result,
            row,
            data=self._plan.data,
            strategy=self._name,
            graded=graded,
            curve=tuple(_point(one, graded) for one in stood),
            replayed=self._replayed(result),
            batch=batch,
        )

    def _replayed(self, result: Result) -> int:
        """How many of a question's branches came from a record."""
        if not isinstance(self._backend, RecordedBackend) or not result.paths:
            return 0
        return self._backend.replayed[result.paths[0].path.root.key]

    def _check_record(self) -> None:
        """A branch that can't be recorded would be lost with the next kill, and an answer without the paths that a pool
        lacks would be another than the strategy's. Raises what went wrong."""
        if not isinstance(self._backend, RecordedBackend):
            return
        if self._backend.failure is not None:
            raise self._backend.failure
        if lacks := self._backend.lacks:
            raise ConfigError("pool", f"lacks {lacks} that {self._name} asks for", "draw what it lacks with --live")


def _task_name(row: Row) -> str:
    return row.task.name


def _digest(strategy: AnyStrategy, batch: Sequence[Row]) -> str:
    """Tells a batch whose questions share their paths from one of other questions; empty where they share none."""
    if not strategy.batched:
        return ""
    return hashlib.sha256("\n".join(sorted(row.id for row in batch)).encode()).hexdigest()[:12]


def _point(standing: Standing, graded: Grade) -> Point:
    answer = standing.decision.answer
    return Point(standing.sampled, answer is not None and graded.right.get(answer.value, False))
