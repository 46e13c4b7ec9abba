"""The plot of accuracy against tokens."""

import pytest

from branchwise.evaluation import summarize
from branchwise.evaluation.report.plot import plot
from tests.support.evaluations import make_answered


def test_a_dollar_is_not_a_formula_and_zero_tokens_are_plotted(recwarn: pytest.WarningsRecorder) -> None:
    rows = [make_answered("a", "x_$1_$2", sampled=0, data="c$5_$6")]
    assert plot(summarize("c$5_$6", rows, ["x_$1_$2"]), rows)["png"]
    assert not [each for each in recwarn if "log" in str(each.message)]


def test_the_plot_of_a_long_curve_is_bounded() -> None:
    curve = [(60 * branch, branch % 7 < 3) for branch in range(100_000)]
    rows = [make_answered("a", curve=curve), make_answered("b", curve=curve[::2])]
    assert len(plot(summarize("rows", rows, ["sc"]), rows)["svg"]) < 200_000
