"""The figures of an evaluation, as a table on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from branchwise.cli.options import printable
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.statistics import Estimate
from branchwise.evaluation.summary import DataSummary, StrategySummary

_COLUMNS = ("strategy", "right", "accuracy", "95%", "to first", "sampled", "to first", "paths", "passes", "p50 s")


def print_summary(console: Console, summary: DataSummary, answered: Sequence[Answered]) -> None:
    """A table of one file's results, and the first failure of each strategy."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "strategy" else "right", no_wrap=True)
    for one in summary.strategies:
        table.add_row(*_cells(one))
    count = summary.questions
    console.print(f"{summary.data}, {count} question{'' if count == 1 else 's'}", style="bold", markup=False)
    console.print(table)
    for one in summary.strategies:
        failed = [each for each in answered if each.strategy == one.strategy and each.failed]
        if failed:
            said = printable(f"{one.strategy}: {len(failed)} failed; the first: {'; '.join(failed[0].errors)}")
            console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _cells(one: StrategySummary) -> list[str]:
    to_first = one.sampled_to_baseline
    return [
        one.strategy,
        f"{one.right} of {one.questions}",
        f"{one.accuracy.value:.1%}",
        f"{one.accuracy.low:.0%}-{one.accuracy.high:.0%}",
        "" if one.to_baseline is None else _points(one.to_baseline),
        f"{one.sampled:,}",
        "" if to_first is None else f"{to_first.value - 1:+.1%}",
        f"{one.paths:,}",
        f"{one.usage.forward_passes:,.0f}",
        "" if one.seconds_p50 is None else f"{one.seconds_p50:.1f}",
    ]


def _points(estimate: Estimate) -> str:
    """A difference of shares in points, with its interval."""
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.0f} to {100 * estimate.high:+.0f})"
