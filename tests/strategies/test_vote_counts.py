"""Counting votes, and how sure a count is: against tables, enumeration and samples."""

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

# The smallest leader count that passes each bar, for a runner-up count of 0 to 5.
SMALLEST_LEAD = {
    0.80: (2, 3, 5, 6, 7, 9),
    0.90: (3, 5, 6, 8, 9, 11),
    0.95: (4, 6, 8, 9, 11, 12),
    0.99: (6, 9, 11, 13, 14, 16),
}


@pytest.mark.parametrize(("bar", "leads"), SMALLEST_LEAD.items())
def test_beta_confidence_passes_a_bar_at_the_known_lead(bar: float, leads: tuple[int, ...]) -> None:
    for second, lead in enumerate(leads):
        assert beta_confidence(lead, second) >= bar
        assert beta_confidence(lead - 1, second) < bar


def test_beta_confidence_is_half_at_a_tie_and_symmetric() -> None:
    assert beta_confidence(0, 0) == pytest.approx(0.5)
    assert beta_confidence(7, 7) == pytest.approx(0.5)
    assert beta_confidence(3, 8) == pytest.approx(1 - beta_confidence(8, 3))


def test_none_never_counts_and_never_leads() -> None:
    votes = count([None, None, None, Answer("1")])
    assert votes == {Answer("1"): 1}
    assert leader(votes) == Answer("1")
    assert leader(count([None, None])) is None
    assert confidence(count([None])) is None


def test_the_first_to_appear_leads_among_equals() -> None:
    assert leader(count([Answer("b"), Answer("a"), Answer("a"), Answer("b")])) == Answer("b")


def test_confidence_of_a_given_answer_is_against_its_best_rival() -> None:
    votes = count([Answer("a")] * 5 + [Answer("b")] * 2 + [Answer("c")])
    assert confidence(votes) == pytest.approx(beta_confidence(5, 2))
    assert confidence(votes, Answer("b")) == pytest.approx(beta_confidence(2, 5))
    assert confidence(votes, Answer("d")) == pytest.approx(beta_confidence(0, 5))


def named(*counts: float) -> dict[Answer, float]:
    return {Answer(str(place)): votes for place, votes in enumerate(counts)}


def test_weights_add_up_and_none_has_none() -> None:
    votes = weigh([(Answer("a"), 0.5), (None, 9.0), (Answer("b"), 1.0), (Answer("a"), 0.25)])
    assert list(votes.items()) == [(Answer("b"), 1.0), (Answer("a"), 0.75)]  # most first


def test_the_runner_up_is_the_second_of_any_order() -> None:
    assert runner_up(named(1, 5, 3)) == 3
    assert runner_up(named(4, 4)) == 4
    assert runner_up(named(4)) == runner_up({}) == 0


@pytest.mark.parametrize("counts", [(1, 1), (5, 2), (2, 5), (9, 9), (30, 21), (0, 0)])
def test_the_dirichlet_confidence_in_one_of_two_answers_is_the_beta_confidence(counts: tuple[int, int]) -> None:
    assert dirichlet_confidence(named(*counts)) == pytest.approx(beta_confidence(max(counts), min(counts)), abs=1e-7)


def test_the_dirichlet_confidence_in_one_answer_is_against_one_never_seen() -> None:
    assert dirichlet_confidence(named(4)) == pytest.approx(1 - 1 / 2**5)  # P(Beta(5, 1) > 1/2)
    assert dirichlet_confidence({}) is None


@pytest.mark.parametrize("answers", [2, 3, 5, 12])
def test_the_dirichlet_confidence_in_one_of_equals_is_its_share(answers: int) -> None:
    assert dirichlet_confidence(named(*[3] * answers)) == pytest.approx(1 / answers, abs=1e-7)


@pytest.mark.parametrize(
    "counts", [(3, 2, 1), (7, 1, 1), (2, 4, 4), (20, 14, 9, 9), (5, 1, 1, 1, 1, 1), (2.5, 1.5, 0.5)]
)
def test_the_dirichlet_confidence_is_the_share_of_samples_the_leader_leads(counts: tuple[float, ...]) -> None:
    """Five standard deviations: a false alarm in 1.7 million (the seed is fixed)."""
    samples = 200_000
    shares = np.random.default_rng(7).dirichlet(np.array(counts) + 1, samples)
    led = float((shares.argmax(axis=1) == counts.index(max(counts))).mean())
    assert dirichlet_confidence(named(*counts)) == pytest.approx(led, abs=5 * sqrt(led * (1 - led) / samples))


def leads_at_the_end(leading: int, second: int, left: int) -> Fraction:
    """The Beta-binomial by enumeration: every order of further votes, each drawn by Laplace's rule of succession."""
    total = Fraction(0)
    for votes in product((True, False), repeat=left):
        a, b, probability = leading, second, Fraction(1)
        for vote in votes:
            probability *= Fraction((a if vote else b) + 1, a + b + 2)
            a, b = a + vote, b + (not vote)
        total += probability * (a >= b)
    return total


@pytest.mark.parametrize("left", range(8))
@pytest.mark.parametrize("second", range(4))
def test_the_final_confidence_is_that_of_every_way_the_votes_can_go(second: int, left: int) -> None:
    for leading in range(second, second + 4):
        expected = leads_at_the_end(leading, second, left)
        assert final_confidence(leading, second, left) == pytest.approx(float(expected), abs=1e-12)


def test_a_lead_that_cannot_be_overtaken_is_certain_and_one_that_can_is_not() -> None:
    assert final_confidence(5, 2, 3) == 1.0  # a tie goes to whom led before
    assert final_confidence(5, 2, 4) < 1.0
    assert final_confidence(3, 3, 0) == 1.0


def test_a_leader_is_rather_final_than_for_ever_ahead_and_in_the_end_the_same() -> None:
    for leading, second in product(range(9), range(9)):
        if leading >= second:
            sure = beta_confidence(leading, second)
            assert all(final_confidence(leading, second, left) >= sure - 1e-12 for left in range(1, 40))
            assert final_confidence(leading, second, 100_001) == pytest.approx(sure, abs=1e-3)


@pytest.mark.parametrize(("leading", "second"), [(0, 0), (1, 0), (4, 0), (7, 2), (9, 9), (30, 12)])
def test_the_ratio_confidence_is_one_less_the_posterior_at_even_shares(leading: int, second: int) -> None:
    n = leading + second  # the density of Beta(a + 1, b + 1) at 1/2 is (n + 1)! / (a! b!) / 2^n, its prior's is 1
    density = factorial(n + 1) / factorial(leading) / factorial(second) / 2**n
    assert ratio_confidence(leading, second) == pytest.approx(1 - min(1.0, density))
    assert density == pytest.approx((n + 1) * comb(n, leading) / 2**n)
