"""`branchwise report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from branchwise.cli.options import OUTPUT, stderr
from branchwise.cli.render.figures import print_summary
from branchwise.core.errors import ConfigError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.journal import read_answered
from branchwise.evaluation.report.page import Section, render, section
from branchwise.evaluation.report.plot import plot
from branchwise.evaluation.report.summary import by_data, names, summarize


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of an evaluation.", metavar="DIR")],
    baseline: Annotated[
        str | None, typer.Option(help="The strategy others are compared with. [default: the first that was run]")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Show an evaluation: a table, accuracy against tokens as PNG and SVG, and a page of all paths, in its folder."""
    answered = read_answered(folder)
    if not answered:
        raise ConfigError("folder", f"{folder} holds no answers yet", "run the evaluation first")
    strategies = names(answered)
    if baseline is not None:
        if baseline not in strategies:
            raise ConfigError("baseline", f"{baseline!r} was not run", f"use one of {', '.join(strategies)}")
        strategies = [baseline, *(name for name in strategies if name != baseline)]
    sections = []
    for data, own in by_data(answered).items():
        present = [name for name in strategies if any(one.strategy == name for one in own)]
        sections.append(_section(folder, data, own, present))
    page = folder / "report.html"
    _write(page, render(f"branchwise: {folder.resolve().name}", sections).encode())
    stderr.print(f"wrote {page}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if open_:
        typer.launch(str(page))


def _section(folder: Path, data: str, own: Sequence[Answered], strategies: Sequence[str]) -> Section:
    """Print one file's table and draw its plot."""
    summary = summarize(data, own, strategies)
    print_summary(summary, own)
    name = "".join(char if char.isalnum() or char in "-_" else "-" for char in data)
    drawn = plot(summary, own)
    for kind, content in drawn.items():
        _write(folder / f"accuracy-{name}.{kind}", content)
    svg = drawn["svg"].decode()
    return section(summary, own, svg[svg.index("<svg") :])


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ConfigError("folder", f"cannot write {file} ({error.strerror})", "free some space") from error
