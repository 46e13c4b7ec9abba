"""The figures of an evaluation, as a table on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from branchwise.cli.options import printable
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.summary import DataSummary, StrategySummary
from branchwise.evaluation.statistics import Estimate

_WIDE = 116  # columns of a terminal that has room for intervals
_FILE_WIDTH = 200  # of what is no terminal


def print_summary(summary: DataSummary, answered: Sequence[Answered]) -> None:
    """A table of one file's results on standard output, and the first failure of each strategy."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    rows = [_cells(one, console.width >= _WIDE, summary.metrics) for one in summary.strategies]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in rows[0]:
        if column == "strategy":  # options make names long
            table.add_column(column, overflow="fold", max_width=60)
        else:
            table.add_column(column.strip(), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row.values()))
    count = summary.questions
    console.print(f"{summary.data}, {count} question{'' if count == 1 else 's'}", style="bold", markup=False)
    console.print(table)
    for one in summary.strategies:
        failed = [each for each in answered if each.strategy == one.strategy and each.failed]
        if failed:
            said = printable(f"{one.strategy}: {len(failed)} failed; the first: {'; '.join(failed[0].errors)}")
            console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _cells(one: StrategySummary, wide: bool, metrics: Sequence[str]) -> dict[str, str]:
    """A row by its columns' names; intervals only where there is room."""
    more, tokens = one.to_baseline, one.sampled_to_baseline
    accuracy, interval = f"{one.accuracy.value:.1%}", f"{100 * one.accuracy.low:.0f} to {100 * one.accuracy.high:.0f}"
    row = {"strategy": one.strategy, "right": f"{one.right} of {one.questions}", "accuracy": accuracy}
    if wide:
        row["95%"] = interval
        row["to first"] = "" if more is None else points(more)
    row |= {
        "sampled": f"{one.sampled:,}",
        "to first ": "" if tokens is None else f"{tokens.value - 1:+.1%}",
        "paths": f"{one.paths:,}",
    }
    if wide:
        row["passes"] = f"{one.usage.forward_passes:,.0f}"
        for name in metrics:
            row[name.replace("_", " ")] = f"{one.metrics[name].value:.3f}" if name in one.metrics else ""
    return row | {"p50 s": "" if one.seconds_p50 is None else f"{one.seconds_p50:.1f}"}


def points(estimate: Estimate) -> str:
    """A difference of shares in points, with its interval."""
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.0f} to {100 * estimate.high:+.0f})"
