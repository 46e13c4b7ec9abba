"""The summary of an evaluation as a table on a terminal."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from branchwise.cli.render.terminal import wide_stdout
from branchwise.core.summary import printable
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.summary import DataSummary, StrategySummary
from branchwise.evaluation.statistics import Estimate

_INTERVALS_WIDTH = 116  # columns that a terminal needs for intervals
_STRATEGY_WIDTH = 60


class _Cell(NamedTuple):
    """A figure and the header of its column."""

    header: str
    text: str


def print_summary(summary: DataSummary, answered: Sequence[Answered]) -> None:
    """Print the table of one data set on standard output, and the first failure of each strategy."""
    console = wide_stdout()
    rows = [_row(one, console.width >= _INTERVALS_WIDTH, summary.metrics) for one in summary.strategies]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    strategy, *figures = rows[0]
    table.add_column(strategy.header, overflow="fold", max_width=_STRATEGY_WIDTH)  # options make names long
    for cell in figures:
        table.add_column(cell.header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell.text)) for cell in row))
    count = summary.questions
    console.print(f"{summary.data}, {count} question{'' if count == 1 else 's'}", style="bold", markup=False)
    console.print(table)
    for one in summary.strategies:
        failed = [each for each in answered if each.strategy == one.strategy and each.failed]
        if failed:
            text = printable(f"{one.strategy}: {len(failed)} failed; the first: {'; '.join(failed[0].errors)}")
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _row(one: StrategySummary, wide: bool, metrics: Sequence[str]) -> list[_Cell]:
    """Return the cells of a strategy; intervals, passes and metrics only if the terminal is wide."""
    gain, tokens, accuracy = one.to_baseline, one.sampled_to_baseline, one.accuracy
    cells = [
        _Cell("strategy", one.strategy),
        _Cell("correct", f"{one.right} of {one.questions}"),
        _Cell("accuracy", f"{accuracy.value:.1%}"),
    ]
    if wide:
        cells.append(_Cell("95%", f"{100 * accuracy.low:.0f} to {100 * accuracy.high:.0f}"))
        cells.append(_Cell("vs first", "" if gain is None else points(gain)))
    cells += [
        _Cell("tokens", f"{one.sampled:,}"),
        _Cell("vs first", "" if tokens is None else f"{tokens.value - 1:+.1%}"),
        _Cell("paths", f"{one.paths:,}"),
    ]
    if wide:
        cells.append(_Cell("passes", f"{one.usage.forward_passes:,.0f}"))
        for name in metrics:
            cells.append(_Cell(name.replace("_", " "), f"{one.metrics[name].value:.3f}" if name in one.metrics else ""))
    return [*cells, _Cell("p50 s", "" if one.seconds_p50 is None else f"{one.seconds_p50:.1f}")]


def points(estimate: Estimate) -> str:
    """Return a difference of two shares in percentage points, with its interval."""
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.0f} to {100 * estimate.high:+.0f})"
