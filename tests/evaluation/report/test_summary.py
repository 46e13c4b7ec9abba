"""Summaries: comparisons with the baseline, calibration, costs and tokens to a share of the gain."""

import time

import pytest

from branchwise.evaluation import summarize
from branchwise.evaluation.answered import CurvePoint
from branchwise.evaluation.report.summary import Summary, accuracy_curve, format_summary
from tests.support.evaluations import make_answered, make_path


def test_strategies_are_compared_on_questions_both_answered() -> None:
    rows = [
        make_answered("a", "sc", True, 100),
        make_answered("b", "sc", False, 100),
        make_answered("c", "sc", True, 100),
        make_answered("a", "ac", True, 20),
        make_answered("b", "ac", True, 40, confidence=None, answer=None),
    ]
    summary = summarize("rows", rows, ["sc", "ac"])
    first, second = summary.strategies
    assert (first.right, first.questions, first.to_baseline) == (2, 3, None)
    assert second.to_baseline is not None
    assert second.to_baseline.value == pytest.approx(0.5)  # 2 of 2 against 1 of the same 2
    assert second.sampled_to_baseline is not None
    assert second.sampled_to_baseline.value == pytest.approx(60 / 200)
    assert second.calibration["reported"].questions == 1
    assert (second.unanswered, first.unanswered) == (1, 0)
    assert summary.single_path == pytest.approx(2 / 3)


def test_tokens_to_the_baseline_use_the_same_questions() -> None:
    """The baseline answered only the first question, where its vote and one of its two paths are correct."""
    half = {"texts": ("a", "b"), "right": (False, True)}
    base = make_answered("a", curve=[CurvePoint(10, False), CurvePoint(20, True)], **half)  # type: ignore[arg-type]
    other = [
        make_answered("a", "x", curve=[CurvePoint(10, True)]),
        make_answered("b", "x", False, curve=[CurvePoint(90, False)]),
    ]
    _, second = summarize("rows", [base, *other], ["sc", "x"]).strategies
    assert second.tokens_to == {"75%": 10, "90%": 10, "99%": 10}


def test_a_failed_question_counts_for_single_paths_and_the_vote() -> None:
    """Accuracy rises from (1/2 + 0) / 2 of single paths to (1 + 0) / 2 of the votes."""
    half = {"texts": ("a", "b"), "right": (False, True)}
    base = make_answered("a", curve=[CurvePoint(10, False), CurvePoint(20, True)], **half)  # type: ignore[arg-type]
    failed = make_answered("b", correct=False, sampled=0, texts=(), outcome="failed", curve=[])
    summary = summarize("rows", [base, failed], ["sc"])
    assert summary.single_path == 0.25
    assert summary.strategies[0].tokens_to == {"75%": 10, "90%": 10, "99%": 10}


def test_strategies_without_common_questions_are_not_compared() -> None:
    base = make_answered("a", texts=("a", "b"), right=(False, True), curve=[CurvePoint(20, True)])
    _, other = summarize("rows", [base, make_answered("b", "x")], ["sc", "x"]).strategies
    assert (other.to_baseline, other.sampled_to_baseline) == (None, None)
    assert set(other.tokens_to.values()) == {None}


def test_questions_without_tokens_have_a_ratio() -> None:
    """Some resamples of two questions contain only the one without tokens; they are left out."""
    rows = [make_answered("a", sampled=10), make_answered("b", sampled=0), make_answered("a", "x", sampled=5)]
    rows.append(make_answered("b", "x", sampled=0))
    summary = summarize("rows", rows, ["sc", "x"])
    assert summary.strategies[1].sampled_to_baseline == (0.5, 0.5, 0.5)
    assert Summary.model_validate_json(format_summary([summary])) == Summary(data=(summary,))


def test_a_tally_is_calibrated_by_its_leading_answer() -> None:
    """The tally `root` leads with 2, which is wrong, `pooled` with 1. The second question has no confidence."""
    tallies = {"root": {"votes": {"2": 2, "1": 1}, "confidence": 0.75}, "pooled": {"votes": {"1": 3}, "confidence": 1}}
    paths = [make_path(branch, vote, vote) for branch, vote in enumerate("2121")]
    rows = [
        make_answered("a", paths=paths, right=[path["vote"] == "1" for path in paths], tallies=tallies),
        make_answered("b", confidence=None, tallies={"root": {"votes": {}, "confidence": None}}),
    ]
    (summary,) = summarize("rows", rows, ["sc"]).strategies
    assert {name: (one.questions, one.brier) for name, one in summary.calibration.items()} == {
        "reported": (1, pytest.approx(0.04)),
        "root": (1, 0.75**2),
        "pooled": (1, 0.0),
    }


def test_replayed_questions_have_no_times() -> None:
    sampled, replayed = make_answered("a"), make_answered("b", replayed=1, usage={"sampled": 1, "seconds": 9.0})
    (summary,) = summarize("rows", [sampled, replayed], ["sc"]).strategies
    assert (summary.seconds_p50, summary.seconds_p95) == (2.0, 2.0)
    (summary,) = summarize("rows", [replayed], ["sc"]).strategies
    assert summary.seconds_p50 is None
    many = [make_answered(str(i), usage={"sampled": 1, "seconds": float(i)}) for i in range(21)]  # 0 to 20
    (summary,) = summarize("rows", many[::-1], ["sc"]).strategies
    assert (summary.seconds_p50, summary.seconds_p95) == (10.0, 19.0)
    (summary,) = summarize("rows", many[1:10:8], ["sc"]).strategies
    assert summary.seconds_p50 == 5.0  # between 1 and 9


def test_every_field_of_the_usage_is_summed() -> None:
    usage = {
        "prompt": 3,
        "reused": 5,
        "prefilled": 7,
        "sampled": 11,
        "discarded": 2,
        "drafted": 13,
        "accepted": 12,
        "scored": 17,
        "forward_passes": 1.5,
        "seconds": 2.0,
    }
    (summary,) = summarize(
        "rows", [make_answered("a", usage=usage), make_answered("b", usage=usage)], ["sc"]
    ).strategies
    summed = summary.usage.model_dump()
    assert {name: summed[name] for name in usage} == {name: 2 * value for name, value in usage.items()}
    assert summary.sampled == 22


def test_tokens_to_the_baseline_by_hand() -> None:
    """Single paths have accuracy 0.25 and the vote 1: 75% of the gain is 0.8125."""
    curve = [CurvePoint(10, False), CurvePoint(20, True), CurvePoint(30, True), CurvePoint(40, True)]
    late = [CurvePoint(10, False), CurvePoint(20, False), CurvePoint(30, True), CurvePoint(40, True)]
    four = {"texts": ("a", "b", "c", "d"), "right": (True, False, False, False)}
    rows = [make_answered("a", curve=curve, **four), make_answered("b", curve=late, **four)]  # type: ignore[arg-type]
    assert accuracy_curve(rows) == [(10, 0), (20, 0.5), (30, 1), (40, 1)]
    (summary,) = summarize("rows", rows, ["sc"]).strategies
    assert summary.tokens_to == {"75%": 30, "90%": 30, "99%": 30}
    stopped = [make_answered("a", curve=curve[:2], **four), make_answered("b", curve=late[:2], **four)]  # type: ignore[arg-type]
    _, other = summarize(
        "rows", [*rows, *(one.model_copy(update={"strategy": "x"}) for one in stopped)], ["sc", "x"]
    ).strategies
    assert other.tokens_to["75%"] is None
    # A question that failed before its first branch is wrong at every point.
    broken = make_answered("c", correct=False, sampled=0, texts=(), curve=[], outcome="failed")
    assert accuracy_curve([*rows, broken]) == [(20 / 3, 0), (40 / 3, 1 / 3), (20, 2 / 3), (80 / 3, 2 / 3)]
    assert accuracy_curve([broken]) == []
    # Without a gain over a single path there is no target.
    flat = [
        make_answered("a", curve=[CurvePoint(10, True)]),
        make_answered("b", correct=False, curve=[CurvePoint(10, False)]),
    ]
    (summary,) = summarize("rows", flat, ["sc"]).strategies
    assert summary.tokens_to == {"75%": None, "90%": None, "99%": None}


def test_the_curve_of_many_branches_takes_linear_time() -> None:
    """One question of 100,000 branches among 500: points times questions would take minutes."""
    short = [make_answered(str(row), curve=[CurvePoint(5, row % 2 == 0)]) for row in range(499)]
    long = make_answered("long", curve=[CurvePoint(branch, branch % 2 == 0) for branch in range(100_000)])
    started = time.monotonic()
    curve = accuracy_curve([*short, long])
    assert time.monotonic() - started < 5
    assert (len(curve), curve[0]) == (100_000, (499 * 5 / 500, 251 / 500))
    assert curve[-1] == ((499 * 5 + 99_999) / 500, 250 / 500)
