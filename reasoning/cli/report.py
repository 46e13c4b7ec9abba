"""`branchwise report`: the tables, plots and HTML page of an evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from branchwise.cli.options import FolderArgument, OpenPage
from branchwise.cli.render.summary_table import print_summary
from branchwise.cli.render.terminal import stderr
from branchwise.core.errors import ConfigError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.page import Section, make_section, render
from branchwise.evaluation.report.plot import plot
from branchwise.evaluation.report.summary import group_by_data, strategy_names, summarize
from branchwise.evaluation.results import read_results


def report(
    folder: FolderArgument,
    baseline: Annotated[
        str | None, typer.Option(help="Strategy that the others are compared with. [default: the first that was run]")
    ] = None,
    open_page: OpenPage = False,
) -> None:
    """Print the results of an evaluation, and write plots and a page.

    Writes report.html, with every question and path, and accuracy-*.png and .svg, accuracy against tokens, to the
    folder.
    """
    answered = read_results(folder)
    if not answered:
        raise ConfigError("folder", f"{folder} holds no answers yet", "run the evaluation first")
    strategies = strategy_names(answered)
    if baseline is not None:
        if baseline not in strategies:
            raise ConfigError("baseline", f"{baseline!r} was not run", f"use one of {', '.join(strategies)}")
        strategies = [baseline, *(name for name in strategies if name != baseline)]
    sections = []
    for data, rows in group_by_data(answered).items():
        present = [name for name in strategies if any(row.strategy == name for row in rows)]
        sections.append(_report_data(folder, data, rows, present))
    page = folder / "report.html"
    _write(page, render(f"branchwise: {folder.resolve().name}", sections).encode())
    stderr.print(f"wrote {page}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if open_page:
        typer.launch(str(page))


def _report_data(folder: Path, data: str, answered: Sequence[Answered], strategies: Sequence[str]) -> Section:
    """Print the table of one data set, write its plots and return its section of the page."""
    summary = summarize(data, answered, strategies)
    print_summary(summary, answered)
    name = "".join(char if char.isalnum() or char in "-_" else "-" for char in data)
    pictures = plot(summary, answered)
    for kind, content in pictures.items():
        _write(folder / f"accuracy-{name}.{kind}", content)
    svg = pictures["svg"].decode()
    return make_section(summary, answered, svg[svg.index("<svg") :])


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ConfigError("folder", f"cannot write {file} ({error.strerror})", "free some space") from error
