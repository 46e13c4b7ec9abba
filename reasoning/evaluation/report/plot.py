"""A plot of accuracy against sampled tokens."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from branchwise.core.errors import MissingExtraError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.summary import DataSummary, StrategySummary, accuracy_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*Xhd<>p"
_CURVE_POINTS = 1_000


def plot(summary: DataSummary, answered: Sequence[Answered]) -> Mapping[str, bytes]:
    """Return the plot of one data set as `png` and as `svg`.

    Shows a line per strategy, the accuracy after each branch, and its final accuracy with the 95% interval.

    Raises MissingExtraError without the extra `plot`.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot, which has global state and may open windows
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "plot") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, one in enumerate(summary.strategies):
        _plot_strategy(axes, place, one, [each for each in answered if each.strategy == one.strategy])
    if any(one.sampled for one in summary.strategies):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))  # 2,000 instead of 2 × 10³
    axes.set_xlabel("sampled tokens per question")
    axes.set_ylabel("accuracy (%), with 95% interval")
    axes.set_title(f"{summary.data}, {summary.questions} questions", parse_math=False)  # names may contain a `$`
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize="small").get_texts():
        text.set_parse_math(False)
    pictures = {}
    for kind in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        pictures[kind] = content.getvalue()
    return pictures


def _plot_strategy(axes: "Axes", place: int, one: StrategySummary, answered: Sequence[Answered]) -> None:
    color, marker = f"C{place % 10}", _MARKERS[place % len(_MARKERS)]
    if curve := _thin(accuracy_curve(answered)):
        axes.plot([x for x, _ in curve], [100 * y for _, y in curve], color=color, alpha=0.5, linewidth=1)
    value, low, high = (100 * share for share in one.accuracy)
    axes.errorbar(
        one.sampled / one.questions,
        value,
        yerr=[[value - low], [high - value]],
        color=color,
        marker=marker,
        capsize=3,
        label=one.strategy,
    )


def _thin(curve: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most about 1,000 points: the first ones, then at places that grow by a constant factor, and the last.

    On the plot's logarithmic scale they are evenly spaced.
    """
    if len(curve) <= _CURVE_POINTS:
        return curve
    factor = len(curve) ** (1 / _CURVE_POINTS)
    places = {min(int(factor**power), len(curve)) - 1 for power in range(_CURVE_POINTS + 1)}
    return [curve[place] for place in sorted(places | {len(curve) - 1})]
