"""Accuracy against tokens, as a picture."""

import io
from collections.abc import Mapping, Sequence

from branchwise.core.errors import MissingExtraError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.summary import DataSummary, points

_MARKERS = "osD^vP*Xhd<>p"


def plot(summary: DataSummary, answered: Sequence[Answered]) -> Mapping[str, bytes]:
    """A picture of one file's strategies as `png` and as `svg`: how accuracy grew with the tokens of a question, and
    the last point with its 95% interval.

    Raises MissingExtraError without the extra `plot`.
    """
    try:
        from matplotlib.figure import Figure  # no window, no global state
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "plot") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, one in enumerate(summary.strategies):
        own = [each for each in answered if each.strategy == one.strategy]
        curve = points(own)
        color, marker = f"C{place % 10}", _MARKERS[place % len(_MARKERS)]
        if curve:
            axes.plot([x for x, _ in curve], [100 * y for _, y in curve], color=color, alpha=0.5, linewidth=1)
        mean = one.sampled / one.questions
        value, low, high = (100 * share for share in one.accuracy)
        axes.errorbar(
            mean, value, yerr=[[value - low], [high - value]], color=color, marker=marker, capsize=3, label=one.strategy
        )
    if any(one.sampled for one in summary.strategies):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))  # 2,000, not 2 × 10³
    axes.set_xlabel("sampled tokens a question")
    axes.set_ylabel("right (%), 95% interval")
    axes.set_title(f"{summary.data}, {summary.questions} questions", parse_math=False)  # a `$` is one
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize="small").get_texts():
        text.set_parse_math(False)
    drawn = {}
    for kind in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        drawn[kind] = content.getvalue()
    return drawn
