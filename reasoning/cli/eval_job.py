"""The work of `branchwise eval`: answers data sets with strategies, prints tables and keeps a journal."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from branchwise.backends.base import Backend, Capabilities
from branchwise.cli.model_options import ModelOptions
from branchwise.cli.render.eval_progress import EvalProgress
from branchwise.cli.render.summary_table import print_summary
from branchwise.cli.render.terminal import stderr
from branchwise.driver import Stop, Verifier, run_sync
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.journal import Journal
from branchwise.evaluation.pool import Pool, replay_and_record
from branchwise.evaluation.prompting import AskedRows
from branchwise.evaluation.report.summary import format_summary, group_by_data, strategy_names, summarize
from branchwise.evaluation.row import Row
from branchwise.evaluation.run import Plan, evaluate
from branchwise.evaluation.settings import RunSettings
from branchwise.strategies.strategy import AnyStrategy

Answers = dict[tuple[str, str], Answered]
"""Answers of one data set by (strategy, id)."""


class PathSource(NamedTuple):
    """The source of sampled paths: a model, the pool of an earlier run, or both."""

    model: str
    capabilities: Capabilities
    backend: Backend | None
    """None: every path is replayed from the pool."""
    pool: Pool | None

    @classmethod
    def load(cls, model_options: ModelOptions | None, pool: Pool | None) -> "PathSource":
        """Load the model, unless there are no model options: then the pool is the only source."""
        if model_options is None:
            assert pool is not None
            return cls(pool.settings.model, pool.settings.capabilities, None, pool)
        backend = model_options.load()
        return cls(model_options.name or backend.capabilities.model, backend.capabilities, backend, pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalJob:
    """Everything that an evaluation needs, checked and loaded."""

    data: Mapping[str, AskedRows]
    """Rows and their prompts, by the name of the data set."""
    strategies: Mapping[str, AnyStrategy]
    source: PathSource
    verifier: Verifier | None
    seed: int
    budget_tokens: int | None
    concurrency: int
    allow_fallback: bool = False

    def settings(self, dtype: str | None, verifier: str | None, origins: Mapping[str, str]) -> RunSettings:
        """Return the settings for the journal, with the name of the verifier and the origin of each data set."""
        return RunSettings.of(
            model=self.source.model,
            seed=self.seed,
            dtype=dtype,
            capabilities=self.source.capabilities,
            strategies=self.strategies,
            verifier=verifier,
            budget_tokens=self.budget_tokens,
            files=origins,
            prompting={name: asked.prompting for name, asked in self.data.items()},
        )

    def run(self, journal: Journal | None) -> bool:
        """Answer every question and print a table per data set; return False if Ctrl-C stopped it.

        With a journal, questions that it contains are not answered again, and its summary is written at the end.
        """
        stop = Stop()
        for name, asked in self.data.items():
            answers = self._earlier_answers(name, asked.rows, journal)
            try:
                self._answer(name, asked, journal, answers, stop)
            finally:  # print the answers so far even if an error ends the run
                if answered := list(answers.values()):
                    print_summary(summarize(name, answered, list(self.strategies)), answered)
            if stop.is_set:
                break
        if journal is not None:
            _write_summary(journal)
        return not stop.is_set

    def _earlier_answers(self, data: str, rows: Sequence[Row], journal: Journal | None) -> Answers:
        """Return the journal's answers to the rows by this job's strategies."""
        if journal is None:
            return {}
        done = journal.done(data, rows)
        return {
            (one.strategy, one.id): one
            for one in journal.answered
            if one.data == data and one.strategy in self.strategies and (one.strategy, one.id) in done
        }

    def _answer(self, data: str, asked: AskedRows, journal: Journal | None, answers: Answers, stop: Stop) -> None:
        """Answer the rows of one data set and add the new answers to `answers` and the journal."""
        source = self.source
        progress = EvalProgress(stderr, data, len(asked.rows) * len(self.strategies), len(answers))

        def on_answered(one: Answered) -> None:
            before = answers.get((one.strategy, one.id))
            if before is not None and not _replaces(one, before):
                return
            if journal is not None:
                journal.add(one)
            if before is None:
                progress.add(one)
            answers[one.strategy, one.id] = one

        def backend_for(strategy: str) -> Backend:
            return replay_and_record(strategy, source.capabilities, source.backend, source.pool, journal)

        plan = Plan(
            data=data,
            rows=asked.rows,
            strategies=self.strategies,
            seed=self.seed,
            concurrency=self.concurrency,
            done={key: one.batch for key, one in answers.items()},
            prompting=asked.prompting,
            verifier=self.verifier,
            budget_tokens=self.budget_tokens,
            allow_fallback=self.allow_fallback,
        )
        with progress.shown():
            run_sync(functools.partial(evaluate, plan, backend_for, on_answered, stop), stop)


def _replaces(answered: Answered, before: Answered) -> bool:
    """Return True if an answer replaces an earlier one, which happens when a whole batch is answered again."""
    if before.batch != answered.batch:
        return True
    return not answered.failed and (answered.paths, answered.votes) != (before.paths, before.votes)


def _write_summary(journal: Journal) -> None:
    """Write the summary of all answers in the journal, including those of earlier runs."""
    groups = group_by_data(journal.answered)
    summaries = [summarize(data, answered, strategy_names(answered)) for data, answered in groups.items()]
    journal.write_summary(format_summary(summaries))
