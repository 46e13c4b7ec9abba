"""`branchwise eval`."""

import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from branchwise.backends.models.catalog import DEFAULT_MODEL
from branchwise.cli.options import load_backend, printable, stderr
from branchwise.driver.solve import run_sync
from branchwise.driver.stop import Stop
from branchwise.errors import ConfigError, require
from branchwise.evaluation.dataset import Row, read_rows
from branchwise.evaluation.run import Scored, Summary
from branchwise.evaluation.run import evaluate as run_evaluation
from branchwise.registry import strategy as find_strategy
from branchwise.result import Outcome
from branchwise.sampling import Sampling


def evaluate(
    data: Annotated[list[str], typer.Argument(help="JSON Lines files, by path or by name in BRANCHWISE_DATA.")],
    strategy: Annotated[list[str] | None, typer.Option(help="A strategy to run; repeatable.")] = None,
    paths: Annotated[int, typer.Option(help="Most paths for each question.")] = 20,
    model: Annotated[str, typer.Option(help="A name, a hub id or a local folder.")] = DEFAULT_MODEL,
    limit: Annotated[int | None, typer.Option(help="Only the first rows of each file.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal paths.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of a path; the task's default otherwise.")] = None,
    concurrency: Annotated[int, typer.Option(help="Questions answered at a time.")] = 4,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; a GPU if there is one.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, ...; the model's own otherwise.")] = None,
    out: Annotated[Path | None, typer.Option(help="Append every result to results.jsonl in this folder.")] = None,
) -> None:
    """Compare strategies on questions with known answers: accuracy, tokens, seconds."""
    names = strategy or ["self-consistency", "path-consistency"]
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    strategies = {name: find_strategy(name, paths, sampling) for name in names}
    require(concurrency >= 1, "concurrency", f"is {concurrency}", "use at least 1")
    require(limit is None or limit >= 1, "limit", f"is {limit}", "use at least 1")
    stems = Counter(Path(source).stem for source in data)
    files = {source if stems[Path(source).stem] > 1 else Path(source).stem: read_rows(source, limit) for source in data}
    if out is not None:
        _make_folder(out)
    backend = load_backend(model, device, dtype)
    console = Console()
    stop = Stop()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not sys.stderr.isatty()) as bar:
        for name, rows in files.items():
            task = bar.add_task(name, total=len(rows) * len(strategies))

            def on_scored(strategy: str, scored: Scored, name: str = name, task: TaskID = task) -> None:
                bar.advance(task)
                if out is not None:
                    _append(out / "results.jsonl", name, strategy, scored)

            run = functools.partial(
                run_evaluation,
                rows,
                strategies,
                backend,
                seed=seed,
                concurrency=concurrency,
                on_scored=on_scored,
                stop=stop,
            )
            summaries = run_sync(run, stop)
            bar.remove_task(task)
            print_summaries(console, name, rows, summaries)
            if stop.is_set:
                raise typer.Exit(1)


def print_summaries(console: Console, name: str, rows: Sequence[Row], summaries: Sequence[Summary]) -> None:
    """A table of one file's results; tokens against the first strategy's."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("strategy", "accuracy", "sampled", "to first", "paths", "reused", "seconds"):
        table.add_column(column, justify="left" if column == "strategy" else "right", no_wrap=True)
    for summary in summaries:
        usage, first = summary.usage, summaries[0].usage.sampled
        table.add_row(
            summary.strategy,
            f"{summary.accuracy:.1%}",
            str(usage.sampled),
            f"{usage.sampled / first - 1:+.1%}" if first else "",
            str(sum(len(item.result.paths) for item in summary.scored)),
            str(usage.reused),
            f"{summary.seconds:.0f}",
        )
    console.print(f"{name}, {len(rows)} questions", style="bold")
    console.print(table)
    for summary in summaries:
        if failed := [item.result for item in summary.scored if item.result.outcome is Outcome.FAILED]:
            said = printable(f"{summary.strategy}: {len(failed)} failed; the first: {'; '.join(failed[0].errors)}")
            console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _make_folder(folder: Path) -> None:
    """Find out before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("out", f"cannot make the folder {folder} ({error.strerror})", "use another one") from error


def _append(file: Path, data: str, strategy: str, scored: Scored) -> None:
    record = {
        "data": data,
        "id": scored.row.id,
        "strategy": strategy,
        "correct": scored.correct,
        "reference": scored.row.answer,
        **scored.result.record(),
    }
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        lines.flush()
        os.fsync(lines.fileno())
