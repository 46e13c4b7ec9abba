"""Vote counts and confidences, checked against tables, enumeration and samples."""

from fractions import Fraction
from itertools import product
from math import comb, factorial, sqrt

import numpy as np
import pytest

from branchwise.core.answer import Answer
from branchwise.core.votes import (
    beta_confidence,
    confidence,
    count,
    dirichlet_confidence,
    final_confidence,
    leader,
    ratio_confidence,
    runner_up,
    weigh,
)

# The smallest leader count that reaches each threshold, for a runner-up count of 0 to 5.
SMALLEST_LEAD = {
    0.80: (2, 3, 5, 6, 7, 9),
    0.90: (3, 5, 6, 8, 9, 11),
    0.95: (4, 6, 8, 9, 11, 12),
    0.99: (6, 9, 11, 13, 14, 16),
}


@pytest.mark.parametrize(("threshold", "leads"), SMALLEST_LEAD.items())
def test_beta_confidence_reaches_a_threshold_at_the_known_lead(threshold: float, leads: tuple[int, ...]) -> None:
    for second, lead in enumerate(leads):
        assert beta_confidence(lead, second) >= threshold
        assert beta_confidence(lead - 1, second) < threshold


def test_beta_confidence_is_half_at_a_tie_and_symmetric() -> None:
    assert beta_confidence(0, 0) == pytest.approx(0.5)
    assert beta_confidence(7, 7) == pytest.approx(0.5)
    assert beta_confidence(3, 8) == pytest.approx(1 - beta_confidence(8, 3))


def test_none_is_never_counted_and_never_leads() -> None:
    votes = count([None, None, None, Answer("1")])
    assert votes == {Answer("1"): 1}
    assert leader(votes) == Answer("1")
    assert leader(count([None, None])) is None
    assert confidence(count([None])) is None


def test_first_answer_leads_on_a_tie() -> None:
    assert leader(count([Answer("b"), Answer("a"), Answer("a"), Answer("b")])) == Answer("b")


def test_confidence_of_an_answer_is_against_its_best_rival() -> None:
    votes = count([Answer("a")] * 5 + [Answer("b")] * 2 + [Answer("c")])
    assert confidence(votes) == pytest.approx(beta_confidence(5, 2))
    assert confidence(votes, Answer("b")) == pytest.approx(beta_confidence(2, 5))
    assert confidence(votes, Answer("d")) == pytest.approx(beta_confidence(0, 5))


def votes_of(*counts: float) -> dict[Answer, float]:
    return {Answer(str(place)): votes for place, votes in enumerate(counts)}


def test_weights_add_up_and_none_is_ignored() -> None:
    votes = weigh([(Answer("a"), 0.5), (None, 9.0), (Answer("b"), 1.0), (Answer("a"), 0.25)])
    assert list(votes.items()) == [(Answer("b"), 1.0), (Answer("a"), 0.75)]  # largest first


def test_runner_up_has_the_second_most_votes_in_any_order() -> None:
    assert runner_up(votes_of(1, 5, 3)) == 3
    assert runner_up(votes_of(4, 4)) == 4
    assert runner_up(votes_of(4)) == runner_up({}) == 0


@pytest.mark.parametrize("counts", [(1, 1), (5, 2), (2, 5), (9, 9), (30, 21), (0, 0)])
def test_dirichlet_equals_beta_confidence_for_two_answers(counts: tuple[int, int]) -> None:
    assert dirichlet_confidence(votes_of(*counts)) == pytest.approx(beta_confidence(max(counts), min(counts)), abs=1e-7)


def test_dirichlet_confidence_of_a_single_answer() -> None:
    assert dirichlet_confidence(votes_of(4)) == pytest.approx(1 - 1 / 2**5)  # P(Beta(5, 1) > 1/2)
    assert dirichlet_confidence({}) is None


@pytest.mark.parametrize("answers", [2, 3, 5, 12])
def test_dirichlet_confidence_on_a_tie_is_the_equal_share(answers: int) -> None:
    assert dirichlet_confidence(votes_of(*[3] * answers)) == pytest.approx(1 / answers, abs=1e-7)


@pytest.mark.parametrize(
    "counts", [(3, 2, 1), (7, 1, 1), (2, 4, 4), (20, 14, 9, 9), (5, 1, 1, 1, 1, 1), (2.5, 1.5, 0.5)]
)
def test_dirichlet_confidence_matches_sampled_shares(counts: tuple[float, ...]) -> None:
    """Compare within five standard deviations: the false-alarm probability is 6e-7 (the seed is fixed)."""
    samples = 200_000
    shares = np.random.default_rng(7).dirichlet(np.array(counts) + 1, samples)
    led = float((shares.argmax(axis=1) == counts.index(max(counts))).mean())
    assert dirichlet_confidence(votes_of(*counts)) == pytest.approx(led, abs=5 * sqrt(led * (1 - led) / samples))


def final_lead_probability(leading: int, second: int, remaining: int) -> Fraction:
    """Enumerate the Beta-binomial: every order of the remaining votes, each with Laplace's rule of succession."""
    total = Fraction(0)
    for votes in product((True, False), repeat=remaining):
        a, b, probability = leading, second, Fraction(1)
        for vote in votes:
            probability *= Fraction((a if vote else b) + 1, a + b + 2)
            a, b = (a + 1, b) if vote else (a, b + 1)
        if a >= b:
            total += probability
    return total


@pytest.mark.parametrize("remaining", range(8))
@pytest.mark.parametrize("second", range(4))
def test_final_confidence_matches_enumeration(second: int, remaining: int) -> None:
    for leading in range(second, second + 4):
        expected = final_lead_probability(leading, second, remaining)
        assert final_confidence(leading, second, remaining) == pytest.approx(float(expected), abs=1e-12)


def test_final_confidence_is_1_only_if_the_lead_is_safe() -> None:
    assert final_confidence(5, 2, 3) == 1.0  # a tie counts as leading
    assert final_confidence(5, 2, 4) < 1.0
    assert final_confidence(3, 3, 0) == 1.0


def test_final_confidence_exceeds_beta_and_converges_to_it() -> None:
    for leading, second in product(range(9), range(9)):
        if leading >= second:
            limit = beta_confidence(leading, second)
            assert all(final_confidence(leading, second, remaining) >= limit - 1e-12 for remaining in range(1, 40))
            assert final_confidence(leading, second, 100_001) == pytest.approx(limit, abs=1e-3)


@pytest.mark.parametrize(("leading", "second"), [(0, 0), (1, 0), (4, 0), (7, 2), (9, 9), (30, 12)])
def test_ratio_confidence_is_1_minus_the_density_at_even_shares(leading: int, second: int) -> None:
    n = leading + second  # Beta(a + 1, b + 1) has the density (n + 1)! / (a! b!) / 2^n at 1/2; the prior has 1
    density = factorial(n + 1) / factorial(leading) / factorial(second) / 2**n
    assert ratio_confidence(leading, second) == pytest.approx(1 - min(1.0, density))
    assert density == pytest.approx((n + 1) * comb(n, leading) / 2**n)
