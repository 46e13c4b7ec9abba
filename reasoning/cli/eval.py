"""`branchwise eval`."""

import functools
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from branchwise.actions import check_paths
from branchwise.backends.models.catalog import DEFAULT_MODEL
from branchwise.backends.models.resolve import check
from branchwise.cli.options import (
    DEVICE_HELP,
    DRAFT_MODEL_HELP,
    DTYPE_HELP,
    MAX_TOKENS_HELP,
    MODEL,
    MODEL_HELP,
    OUTPUT,
    SAMPLING,
    SPECULATION_HELP,
    load_backend,
    printable,
    stderr,
)
from branchwise.cli.tally import Tally
from branchwise.driver.solve import run_sync
from branchwise.driver.stop import Stop
from branchwise.errors import ConfigError, require
from branchwise.evaluation.dataset import Row, read_rows
from branchwise.evaluation.run import Graded, Summary
from branchwise.evaluation.run import evaluate as run_evaluation
from branchwise.registry import STRATEGIES
from branchwise.registry import strategy as find_strategy
from branchwise.result import Outcome
from branchwise.sampling import Sampling

_COMPARED = ("self-consistency", "path-consistency")


def evaluate(
    data: Annotated[list[str], typer.Argument(help="JSON Lines files, by path or by name in BRANCHWISE_DATA.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(STRATEGIES)}; repeatable. [default: {', '.join(_COMPARED)}]", metavar="<str>"),
    ] = None,
    paths: Annotated[int, typer.Option(help="Most paths for each question.")] = 20,
    limit: Annotated[int | None, typer.Option(help="Only the first rows of each file.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal paths.")] = 0,
    concurrency: Annotated[int, typer.Option(help="Questions answered at a time.")] = 4,
    model: Annotated[str, typer.Option(help=MODEL_HELP, rich_help_panel=MODEL)] = DEFAULT_MODEL,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP, rich_help_panel=MODEL)] = None,
    dtype: Annotated[str | None, typer.Option(help=DTYPE_HELP, rich_help_panel=MODEL)] = None,
    speculation: Annotated[str, typer.Option(help=SPECULATION_HELP, rich_help_panel=MODEL)] = "auto",
    draft_model: Annotated[str | None, typer.Option(help=DRAFT_MODEL_HELP, rich_help_panel=MODEL)] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(help=MAX_TOKENS_HELP, rich_help_panel=SAMPLING)] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Append every result to results.jsonl in this folder.", rich_help_panel=OUTPUT),
    ] = None,
) -> None:
    """Compare strategies on questions with known answers: accuracy, tokens, seconds."""
    check_paths(paths)
    names = strategy or _COMPARED
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    strategies = {name: find_strategy(name, paths, sampling) for name in names}
    require(concurrency >= 1, "concurrency", f"is {concurrency}", "use at least 1")
    require(limit is None or limit >= 1, "limit", f"is {limit}", "use at least 1")
    stems = Counter(Path(source).stem for source in data)
    files = {source if stems[Path(source).stem] > 1 else Path(source).stem: read_rows(source, limit) for source in data}
    check(model)
    if out is not None:
        _make_folder(out)
    backend = load_backend(model, device, dtype, speculation, draft_model)
    stop = Stop()
    for name, rows in files.items():
        tally = Tally(stderr, name, len(rows) * len(strategies))

        def on_graded(strategy: str, graded: Graded, name: str = name, tally: Tally = tally) -> None:
            tally.add(strategy, graded)
            if out is not None:
                _append(out / "results.jsonl", name, strategy, graded)

        run = functools.partial(
            run_evaluation,
            rows,
            strategies,
            backend,
            seed=seed,
            concurrency=concurrency,
            on_graded=on_graded,
            stop=stop,
        )
        with tally.shown():
            summaries = run_sync(run, stop)
        print_summaries(Console(), name, rows, summaries)
        if stop.is_set:
            typer.echo("stopped: questions that were not answered by then are left out", err=True)
            raise typer.Exit(1)


def print_summaries(console: Console, name: str, rows: Sequence[Row], summaries: Sequence[Summary]) -> None:
    """A table of one file's results; tokens against the first strategy's."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("strategy", "right", "accuracy", "sampled", "to first", "paths", "seconds"):
        table.add_column(column, justify="left" if column == "strategy" else "right", no_wrap=True)
    for summary in summaries:
        sampled, first = summary.usage.sampled, summaries[0].usage.sampled
        table.add_row(
            summary.strategy,
            f"{sum(item.correct for item in summary.graded)} of {len(summary.graded)}",
            f"{summary.accuracy:.1%}",
            f"{sampled:,}",
            f"{sampled / first - 1:+.1%}" if first and summary is not summaries[0] else "",
            str(sum(len(item.result.paths) for item in summary.graded)),
            f"{summary.seconds:.0f}",
        )
    console.print(f"{name}, {len(rows)} question{'' if len(rows) == 1 else 's'}", style="bold", markup=False)
    if summaries:
        console.print(table)
    for summary in summaries:
        if failed := [item.result for item in summary.graded if item.result.outcome is Outcome.FAILED]:
            said = printable(f"{summary.strategy}: {len(failed)} failed; the first: {'; '.join(failed[0].errors)}")
            console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _make_folder(folder: Path) -> None:
    """Find out before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.jsonl").open("a").close()
    except OSError as error:
        raise ConfigError(
            "out", f"cannot write results.jsonl in {folder} ({error.strerror})", "use another one"
        ) from error


def _append(file: Path, data: str, strategy: str, graded: Graded) -> None:
    record = {
        "data": data,
        "id": graded.row.id,
        "strategy": strategy,
        "correct": graded.correct,
        "reference": graded.row.answer,
        **graded.result.record(tokens=False),
    }
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
    except OSError as error:
        raise ConfigError("out", f"cannot write {file} ({error.strerror})", "free some space or use another") from error
