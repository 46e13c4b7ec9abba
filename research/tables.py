"""What evaluations came to, as Markdown: a table for each file of questions, from the summaries they leave behind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from branchwise.cli.render.summary_table import points
from branchwise.evaluation.report.summary import DataSummary, StrategySummary, Summary
from branchwise.evaluation.statistics import Estimate


def tables(summary: Summary) -> str:
    """One below the other."""
    return "\n\n".join("\n".join(_table(data)) for data in summary.data)


def _table(data: DataSummary) -> Iterator[str]:
    single = "" if data.single_path is None else f"; one path of {data.baseline} is right {data.single_path:.1%}"
    yield f"{data.data}, {data.questions} questions{single}:"
    yield ""
    rows = [_row(one) for one in data.strategies]
    yield grid(list(rows[0]), [list(row.values()) for row in rows])


def _row(one: StrategySummary) -> Mapping[str, str]:
    """A strategy's figures. Tokens, passes and seconds are those of a question."""
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
    """In percent, with its interval."""
    return f"{estimate.value:.1%} ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"


def change(estimate: Estimate) -> str:
    """A ratio as what is more or less, in percent."""
    value, low, high = (100 * (number - 1) for number in estimate)
    return f"{value:+.0f}% ({low:+.0f} to {high:+.0f})"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with that head."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
