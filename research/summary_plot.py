"""Plot of the README: tokens saved against accuracy lost, from the summaries under docs/results.

python -m research.summary_plot docs/images/results.svg
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
DATA = ("gsm8k", "multiarith", "svamp", "gsm8k-1.5b", "multiarith-1.5b", "svamp-1.5b")
STRATEGIES = {
    "self-consistency:paths=20": ("self-consistency, 20 paths", "o"),
    "adaptive-consistency": ("adaptive-consistency", "s"),
    "adaptive-path-consistency": ("adaptive-path-consistency (default)", "D"),
}


class Point(NamedTuple):
    """One strategy on one data set and model, against self-consistency with 40 paths."""

    data: str
    strategy: str
    tokens: float  # share of the baseline's sampled tokens
    points: float  # accuracy minus the baseline's, in percentage points


def points() -> Iterator[Point]:
    """Yield what the recorded summaries hold of the three strategies."""
    for data in DATA:
        rows: dict[str, dict[str, float]] = {}
        for kind in ("replay", "adaptive"):
            if (file := RESULTS / f"{kind}-{data}.json").exists():
                (summary,) = json.loads(file.read_text(encoding="utf-8"))["data"]
                rows |= {row["strategy"].removesuffix(":paths=40"): row for row in summary["strategies"]}
        baseline = rows["self-consistency"]
        for strategy in STRATEGIES:
            row = rows[strategy]
            gain = 100 * (row["right"] / row["questions"] - baseline["right"] / baseline["questions"])
            yield Point(data, strategy, row["sampled"] / baseline["sampled"], gain)


def plot(shown: Sequence[Point]) -> Figure:
    """Return the figure: one marker per strategy and data set."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (strategy, (label, marker)) in enumerate(STRATEGIES.items()):
        own = [point for point in shown if point.strategy == strategy]
        tokens, gains = [100 * point.tokens for point in own], [point.points for point in own]
        axes.scatter(tokens, gains, marker=marker, color=f"C{place}", s=55, label=label, alpha=0.85)
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.scatter([100], [0], marker="*", color="black", s=120, label="self-consistency, 40 paths")
    axes.set_xlim(0, 105)
    axes.set_ylim(-8, 8)
    axes.set_xlabel("sampled tokens, % of self-consistency with 40 paths")
    axes.set_ylabel("accuracy, points")
    axes.set_title("GSM8K, MultiArith and SVAMP; 0.5B and 1.5B; 40 or 60 questions each", fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left")
    return figure


def main() -> None:
    """Write the figure to the file given on the command line."""
    parse = argparse.ArgumentParser(prog="python -m research.summary_plot", description=__doc__)
    parse.add_argument("file", type=Path)
    plot(list(points())).savefig(parse.parse_args().file, metadata={"Date": None})


if __name__ == "__main__":
    main()
