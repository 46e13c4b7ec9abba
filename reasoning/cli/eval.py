"""`branchwise eval`."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from branchwise.backends.base import Backend, Capabilities
from branchwise.cli.options import (
    MAX_TOKENS_HELP,
    OUTPUT,
    SAMPLING,
    BackendName,
    BaseURL,
    Device,
    DraftModel,
    Dtype,
    ModelName,
    ModelOptions,
    Speculation,
    stderr,
)
from branchwise.cli.render.figures import print_summary
from branchwise.cli.render.tally import Tally
from branchwise.cli.verifier import VERIFIER_HELP, chosen_verifier, loaded_verifier
from branchwise.core.budget import Budget
from branchwise.core.errors import require
from branchwise.core.sampling import Sampling
from branchwise.driver import Stop, Verifier, run_sync
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.dataset import Row, name_of, origin, read_rows
from branchwise.evaluation.hub_dataset import Columns
from branchwise.evaluation.journal import Journal, Settings, check_folder
from branchwise.evaluation.pool import Pool, recording
from branchwise.evaluation.report.summary import by_data, names, summarize, write_summary
from branchwise.evaluation.run import Plan
from branchwise.evaluation.run import evaluate as run_evaluation
from branchwise.registry import DEFAULT, STRATEGIES, named
from branchwise.strategies.actions import check_paths
from branchwise.strategies.strategy import AnyStrategy

_COMPARED = ("self-consistency", DEFAULT)


def evaluate(
    data: Annotated[
        list[str],
        typer.Argument(
            help="JSON Lines files, by path or by name in BRANCHWISE_DATA; datasets of the Hugging Face hub as "
            "hf:OWNER/NAME or hf:OWNER/NAME/CONFIG@SPLIT."
        ),
    ],
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(STRATEGIES)}; with options: NAME:option=value,option=value; repeatable. "
            f"[default: {', '.join(_COMPARED)}]",
            metavar="<strategy>",
        ),
    ] = None,
    verifier: Annotated[str | None, typer.Option(help=VERIFIER_HELP, metavar="<verifier>")] = None,
    paths: Annotated[int, typer.Option(help="Paths for each question; what that counts is the strategy's.")] = 20,
    skip: Annotated[int, typer.Option(help="Leave out the first rows of each file.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only so many rows of each file.")] = None,
    question_column: Annotated[
        str | None, typer.Option(help="The questions' column of a hub dataset. [default: found by its name]")
    ] = None,
    answer_column: Annotated[str | None, typer.Option(help="The answers' column of a hub dataset.")] = None,
    answer_type: Annotated[
        str | None,
        typer.Option(
            help="What the answers of a hub dataset are: number, letter, yes_no, boolean, latex, text. "
            "[default: what they look like]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal paths.")] = 0,
    budget_tokens: Annotated[int | None, typer.Option(help="Most tokens to sample for a question.")] = None,
    concurrency: Annotated[int, typer.Option(help="Questions answered at a time.")] = 4,
    model: ModelName = None,
    backend: BackendName = None,
    base_url: BaseURL = None,
    device: Device = None,
    dtype: Dtype = None,
    speculation: Speculation = "auto",
    draft_model: DraftModel = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(help=MAX_TOKENS_HELP, rich_help_panel=SAMPLING)] = None,
    alternatives: Annotated[
        int, typer.Option(help="Recorded with each token; DeepConf needs 20 of a pool.", rich_help_panel=SAMPLING)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep every branch and answer in this folder; the same command goes on where it was.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option(help="Take paths from the folder of an earlier run, without a model.", rich_help_panel=OUTPUT),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="With a model for what the pool lacks.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Compare strategies on questions with known answers: accuracy, tokens, seconds."""
    check_paths(paths)
    require(alternatives >= 0, "alternatives", f"is {alternatives}", "use 0 (none) or more")
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, logprobs=alternatives)
    strategies = dict(named(spec, paths, sampling) for spec in strategy or _COMPARED)
    Budget(tokens=budget_tokens)  # says what is wrong with it
    require(concurrency >= 1, "concurrency", f"is {concurrency}", "use at least 1")
    require(skip >= 0, "skip", f"is {skip}", "use 0 or more")
    require(limit is None or limit >= 1, "limit", f"is {limit}", "use at least 1")
    checked = chosen_verifier(verifier, device, strategies)
    sources = _named(data)
    columns = Columns(question_column, answer_column, answer_type)
    files = {called: read_rows(source, skip, limit, columns) for called, source in sources.items()}
    origins = {called: origin(source) for called, source in sources.items()}
    given = None if pool is None else Pool(pool)
    if given is not None:
        given.check(seed, model, dtype)
        model, dtype = given.settings.model, given.settings.dtype
    wanted = ModelOptions(model, device, dtype, speculation, draft_model, backend, tuple(base_url or ()))
    if given is None or live:
        wanted.check()
    if out is not None and (given is None or live):
        check_folder(out)
    judge = loaded_verifier(checked)
    loaded: Backend | None = None
    if given is None or live:
        loaded = wanted.load()
        able = loaded.capabilities
        name = wanted.name or able.model
    else:
        name, able = given.settings.model, given.settings.capabilities
    verified = None if checked is None else checked.name
    settings = Settings.of(name, seed, dtype, able, strategies, verified, budget_tokens, origins)
    with nullcontext() if out is None else Journal(out, settings) as journal:
        job = _Job(files, strategies, seed, concurrency, able, loaded, given, journal, judge, budget_tokens)
        stopped = job.run()
    if stopped:
        typer.echo("stopped: questions that were not answered by then are left out", err=True)
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Job:
    """All files under all strategies."""

    files: Mapping[str, Sequence[Row]]
    strategies: Mapping[str, AnyStrategy]
    seed: int
    concurrency: int
    able: Capabilities
    backend: Backend | None
    pool: Pool | None
    journal: Journal | None
    verifier: Verifier | None
    budget_tokens: int | None

    def run(self) -> bool:
        """Answer, print and summarize; whether it was stopped."""
        stop = Stop()
        for data, rows in self.files.items():
            answered: dict[tuple[str, str], Answered] = {}
            try:
                self._answer(data, rows, stop, answered)
            finally:  # what is done is told, whatever ends the rest
                if told := list(answered.values()):
                    print_summary(summarize(data, told, list(self.strategies)), told)
            if stop.is_set:
                break
        if self.journal is not None:  # of all that the folder holds: strategies and files may have joined
            kept = by_data(self.journal.answered)
            self.journal.summarize(write_summary([summarize(data, own, names(own)) for data, own in kept.items()]))
        return stop.is_set

    def _answer(self, data: str, rows: Sequence[Row], stop: Stop, answered: dict[tuple[str, str], Answered]) -> None:
        """The rows of one file: `answered` gets what was answered before, and what is answered now."""
        done = {} if self.journal is None else self.journal.done(data, rows)
        for one in () if self.journal is None else self.journal.answered:
            if one.data == data and one.strategy in self.strategies and (one.strategy, one.id) in done:
                answered[one.strategy, one.id] = one
        plan = Plan(data, rows, self.strategies, self.seed, self.concurrency, done, self.verifier, self.budget_tokens)
        tally = Tally(stderr, data, len(rows) * len(self.strategies), len(answered))

        def on_answered(one: Answered) -> None:
            before = answered.get((one.strategy, one.id))
            if before is not None and before.batch == one.batch:  # its batch was answered anew as a whole
                changed = (one.paths, one.votes) != (before.paths, before.votes)
                if one.failed or not changed:
                    return
            if self.journal is not None:
                self.journal.add(one)
            if before is None:
                tally.add(one)
            answered[one.strategy, one.id] = one

        def backend_for(strategy: str) -> Backend:
            return recording(strategy, self.able, self.backend, self.pool, self.journal)

        with tally.shown():
            run_sync(functools.partial(run_evaluation, plan, backend_for, on_answered, stop), stop)


def _named(data: Sequence[str]) -> Mapping[str, str]:
    """The files by what results call them; those of one name are told apart by their paths."""
    names = Counter(map(name_of, dict.fromkeys(data)))
    return {source if names[name_of(source)] > 1 else name_of(source): source for source in data}
