"""Statistics: bootstrap intervals and calibration."""

import random

import pytest

from branchwise.evaluation.statistics import calibration, difference, mean, ratio


def test_intervals_cover_the_true_value() -> None:
    """At least 180 of 200 intervals contain 0.7, for samples of 40 questions with that rate.

    190 are expected, with a standard deviation of 3. Resamples of 100 questions with half of them correct are binomial:
    95% of them have 40 to 60 correct.
    """
    halves = mean([0.0, 1.0] * 50)
    assert (halves.low, halves.high) == pytest.approx((0.4, 0.6), abs=0.011)
    generator = random.Random(1)
    covered = 0
    for _ in range(200):
        estimate = mean([1.0 if generator.random() < 0.7 else 0.0 for _ in range(40)])
        if estimate.low <= 0.7 <= estimate.high:
            covered += 1
    assert covered >= 180


def test_equal_values_have_an_interval() -> None:
    """With 0 errors in n, the exact bound on the error rate is 1 - 0.025^(1/n)."""
    estimate = mean([1.0] * 4)
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.025**0.25)
    same = difference([1.0, 0.0], [1.0, 0.0])
    assert same.value == 0
    assert same.high == -same.low == pytest.approx(1 - 0.025**0.5)


def test_differences_are_paired() -> None:
    """Each question is 0.03 better, so that the paired difference varies only by the exact bound."""
    baseline = [random.Random(i).random() / 2 for i in range(50)]
    better = [value + 0.03 for value in baseline]
    paired = difference(better, baseline)
    assert paired.value == pytest.approx(0.03)
    assert paired.high - paired.low < 0.2
    assert ratio([10, 20, 30], [20, 40, 60]) == pytest.approx((0.5, 0.5, 0.5))


def test_calibration_by_hand() -> None:
    """Two questions at 0.95, one of them correct; one at 0.2, wrong."""
    found = calibration([0.95, 0.95, 0.2], [True, False, False])
    assert found is not None
    assert found.brier == pytest.approx((0.05**2 + 0.95**2 + 0.2**2) / 3)
    assert found.ece == pytest.approx((abs(1 - 1.9) + 0.2) / 3)
    certain = calibration([1.0, 0.95], [True, False])  # 1.0 is in the last bin, with 0.95
    assert certain is not None
    assert certain.ece == pytest.approx(abs(1 - 1.95) / 2)
    assert calibration([], []) is None
