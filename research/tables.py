"""Markdown tables of evaluation summaries, one table per data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from branchwise.cli.render.summary_table import points
from branchwise.evaluation.report.summary import DataSummary, StrategySummary, Summary
from branchwise.evaluation.statistics import Estimate


def tables(summary: Summary) -> str:
    """Return the tables of all data sets in `summary`."""
    return "\n\n".join("\n".join(_table(data)) for data in summary.data)


def _table(data: DataSummary) -> Iterator[str]:
    single = "" if data.single_path is None else f"; one path of {data.baseline} is right {data.single_path:.1%}"
    yield f"{data.data}, {data.questions} questions{single}:"
    yield ""
    rows = [_row(one) for one in data.strategies]
    yield grid(list(rows[0]), [list(row.values()) for row in rows])


def _row(one: StrategySummary) -> Mapping[str, str]:
    """Return a strategy's cells by column. Tokens, passes and seconds are per question."""
    usage, count = one.usage, one.questions
    return {
        "strategy": one.strategy,
        "right": f"{one.right} of {count}",
        "accuracy, 95%": share(one.accuracy),
        "to the first": "" if one.to_baseline is None else points(one.to_baseline),
        "tokens": f"{one.sampled / count:,.0f}",
        "to the first ": "" if one.sampled_to_baseline is None else change(one.sampled_to_baseline),
        "paths": f"{one.paths / count:.1f}",
        "prefilled": f"{usage.prefilled / count:,.0f}",
        "reused": f"{usage.reused / max(1, usage.prompt):.1%}",
        "passes": f"{usage.forward_passes / count:,.0f}",
        "seconds": "" if one.seconds_p50 is None else f"{one.seconds_p50:.1f}",
    }


def share(estimate: Estimate) -> str:
    """Format a share and its interval in percent."""
    return f"{estimate.value:.1%} ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"


def change(estimate: Estimate) -> str:
    """Format a ratio and its interval as a change in percent."""
    value, low, high = (100 * (ratio - 1) for ratio in estimate)
    return f"{value:+.0f}% ({low:+.0f} to {high:+.0f})"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with column titles `head`."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
