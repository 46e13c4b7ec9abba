"""The evaluation loop: answers the rows of a data set with every strategy and grades the answers.

Reads and writes no files; `branchwise eval` passes it the rows of dataset.py and adds its answers to a journal.
"""

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
from branchwise.evaluation.answered import Answered, CurvePoint, make_answered
from branchwise.evaluation.grading import Grade, grade
from branchwise.evaluation.prompting import Prompting
from branchwise.evaluation.row import Row
from branchwise.sandbox.outcome import SandboxError
from branchwise.strategies.strategy import AnyStrategy


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one data set and the strategies that answer them, one strategy after another."""

    data: str
    """Name of the data set."""
    rows: Sequence[Row]
    strategies: Mapping[str, AnyStrategy]
    """Strategies by name, in the order in which they are run."""
    seed: int = 0
    concurrency: int = 4
    """Questions answered at a time. A batched strategy, which shares a budget between questions, gets all at once."""
    done: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Batch of each question that an earlier run answered, by (strategy, id); "" without a batch. They are left out; a
    batch only if all of its questions were answered in that batch."""
    prompting: Prompting = field(default_factory=Prompting)
    """Task, thinking and worked examples of the prompts."""
    verifier: Verifier | None = None
    """Scores paths for strategies that use a verifier."""
    budget_tokens: int | None = None
    """Maximum number of sampled tokens per question; the questions of a batch share the sum."""
    allow_fallback: bool = False
    """Strategies that continue paths vote if the backend continues none."""


async def evaluate(
    plan: Plan, backend_for: Callable[[str], Backend], on_answered: Callable[[Answered], None], stop: Stop
) -> None:
    """Answer and grade every question with every strategy, and call `on_answered` with each.

    `backend_for` returns the backend for a strategy. Its cache is cleared before the strategy starts, so that no
    strategy profits from prompts that an earlier one prefilled. Questions that `stop` interrupts are left out. A
    question that fails counts as wrong and has the error among its `errors`.

    Raises ConfigError, MissingExtraError or SandboxError for an invalid setup, and any error of `on_answered`.
    """
    for name, strategy in plan.strategies.items():
        batches = [
            batch
            for batch in _batches(plan, strategy)
            if {plan.done.get((name, row.id)) for row in batch} != {_batch_digest(strategy, batch)}
        ]
        if batches and not stop.is_set:
            backend = backend_for(name)
            backend.clear()
            run = _StrategyRun(
                plan=plan, name=name, strategy=strategy, backend=backend, stop=stop, on_answered=on_answered
            )
            await run.answer_all(batches)


def _batches(plan: Plan, strategy: AnyStrategy) -> Sequence[Sequence[Row]]:
    """Return one batch per question; for a batched strategy one per task."""
    if not strategy.batched:
        return [[row] for row in plan.rows]

    def task_name(row: Row) -> str:
        return plan.prompting.task_for(row).name

    return [list(batch) for _, batch in groupby(sorted(plan.rows, key=task_name), key=task_name)]


def _batch_digest(strategy: AnyStrategy, batch: Sequence[Row]) -> str:
    """Return a digest of the ids in a batch whose questions share paths; "" if the strategy is not batched."""
    if not strategy.batched:
        return ""
    return hashlib.sha256("\n".join(sorted(row.id for row in batch)).encode()).hexdigest()[:12]


class _StrategyRun:
    """One strategy answering the questions of one data set."""

    def __init__(
        self,
        *,
        plan: Plan,
        name: str,
        strategy: AnyStrategy,
        backend: Backend,
        stop: Stop,
        on_answered: Callable[[Answered], None],
    ) -> None:
        self._plan = plan
        self._name = name
        self._strategy = strategy
        self._backend = backend
        self._stop = stop
        self._on_answered = on_answered
        self._slots = asyncio.Semaphore(plan.concurrency)

    async def answer_all(self, batches: Sequence[Sequence[Row]]) -> None:
        """Answer every batch. An error that is not confined to one question cancels the others and is raised."""
        tasks = [asyncio.create_task(self._answer(batch)) for batch in batches]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, rows: Sequence[Row]) -> None:
        """Answer, grade and report one batch, except for questions that the stop interrupts."""
        async with self._slots:
            if self._stop.is_set:
                return
            standings: list[list[Standing]] = [[] for _ in rows]
            batch = _batch_digest(self._strategy, rows)

            def observe(event: RunEvent) -> None:
                if isinstance(event, Standing):
                    standings[event.question].append(event)

            results = await self._solve(rows, observe)
            if isinstance(self._backend, RecordedBackend):
                self._backend.sync()
            for row, result, question_standings in zip(rows, results, standings, strict=True):
                self._raise_record_errors()
                if result.outcome is not Outcome.CANCELLED:
                    self._on_answered(await self._grade(row, result, question_standings, batch))

    async def _solve(self, rows: Sequence[Row], observe: Callable[[RunEvent], None]) -> Sequence[Result]:
        """Return the results of a batch. ConfigError is raised; any other error becomes the questions' failure."""
        try:
            return await solve_batch(
                [row.question for row in rows],
                self._backend,
                strategy=self._strategy,
                task=self._plan.prompting.task_for(rows[0]),
                budget=self._budget(len(rows)),
                seed=self._plan.seed,
                verifier=self._plan.verifier,
                observer=observe,
                stop=self._stop,
                allow_fallback=self._plan.allow_fallback,
            )
        except ConfigError:
            raise
        except Exception as error:  # a bug in the strategy that these questions trigger
            message = str(CallError(f"strategy {self._name}", error))
            return [Result(None, None, {}, Outcome.FAILED, Usage(), errors=(message,)) for _ in rows]

    def _budget(self, questions: int) -> Budget:
        limit = self._plan.budget_tokens
        return UNLIMITED if limit is None else Budget(tokens=limit * questions)

    async def _grade(self, row: Row, result: Result, standings: Sequence[Standing], batch: str) -> Answered:
        """Return the graded result. A result whose answers can't be compared counts as wrong, with an error.

        Raises the errors of an invalid setup.
        """
        votes = [branch.answer.value for branch in result.paths if branch.answer is not None]
        leaders = [one.decision.answer.value for one in standings if one.decision.answer is not None]
        try:
            graded = await grade(row, result.answer, [*votes, *leaders])
        except (ConfigError, MissingExtraError, SandboxError):
            raise
        except Exception as error:
            message = str(CallError(f"task {row.task.name}", error))
            result, graded = replace(result, errors=(*result.errors, message)), Grade(False, {}, {})
        return make_answered(
            result,
            row,
            data=self._plan.data,
            strategy=self._name,
            graded=graded,
            curve=[_curve_point(one, graded) for one in standings],
            replayed=self._count_replayed(result),
            batch=batch,
        )

    def _count_replayed(self, result: Result) -> int:
        """Return the number of the result's branches that were replayed from a record."""
        if not isinstance(self._backend, RecordedBackend) or not result.paths:
            return 0
        return self._backend.replayed[result.paths[0].path.root.key]

    def _raise_record_errors(self) -> None:
        """Raise if a branch could not be recorded, or if the pool lacks a branch that the strategy requested.

        A branch that is not recorded would be lost if the run were killed. An answer without the missing branches would
        not be the strategy's answer.
        """
        if not isinstance(self._backend, RecordedBackend):
            return
        if self._backend.failure is not None:
            raise self._backend.failure
        if lacks := self._backend.lacks:
            raise ConfigError("pool", f"lacks {lacks} that {self._name} needs", "sample it with --live")


def _curve_point(standing: Standing, graded: Grade) -> CurvePoint:
    answer = standing.decision.answer
    return CurvePoint(standing.sampled, answer is not None and graded.right.get(answer.value, False))
