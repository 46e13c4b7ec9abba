"""Counting votes, and the Beta confidence against the table of smallest leads."""

import pytest

from branchwise.answers.answer import Answer
from branchwise.votes import beta_confidence, confidence, count, leader

# The smallest leader count that passes each bar, for a runner-up count of 0 to 5.
SMALLEST_LEAD = {
    0.80: (2, 3, 5, 6, 7, 9),
    0.90: (3, 5, 6, 8, 9, 11),
    0.95: (4, 6, 8, 9, 11, 12),
    0.99: (6, 9, 11, 13, 14, 16),
}


@pytest.mark.parametrize(("bar", "leads"), SMALLEST_LEAD.items())
def test_beta_confidence_passes_a_bar_at_the_known_lead(bar: float, leads: tuple[int, ...]) -> None:
    for runner_up, lead in enumerate(leads):
        assert beta_confidence(lead, runner_up) >= bar
        assert beta_confidence(lead - 1, runner_up) < bar


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
