"""Adaptive-Consistency against the table of smallest leads: 4, 6, 8, 9, 11, 12 votes against 0 to 5 at 0.95."""

import pytest

import branchwise as bw
from tests.support.vote_scripts import BROKEN, TEXT_ONLY, answers_of, delayed, run


@pytest.mark.parametrize(
    ("strategy", "answers", "sampled"),
    [
        (bw.AdaptiveConsistency(), "1111111", "1111"),  # 4 against 0
        (bw.AdaptiveConsistency(), "1211111111", "1211111"),  # 6 against 1; 5 are too few
        (bw.AdaptiveConsistency(), "2112111111111", "2112111111"),  # 8 against 2
        (bw.AdaptiveConsistency(), "-1-1-1-1-1", "-1-1-1-1"),  # a missing answer has no vote
        (bw.AdaptiveConsistency(), "23111111111", "23111111"),  # 6 against the better other answer
        (bw.AdaptiveConsistency(stop_at=0.8), "1111111", "11"),
        (bw.AdaptiveConsistency(stop_at=0.99), "1111111", "111111"),
        (bw.AdaptiveConsistency(40, stop_at=1.0), "1", "1" * 40),  # no count reaches 1
        (bw.AdaptiveConsistency(window=3), "1211111111", "121111111"),  # 5 against 1 after two windows, 8 after three
        (bw.AdaptiveConsistency(5, window=3), "12", "12121"),  # the last window is shorter
        (bw.AdaptiveConsistency(3), "12", "121"),
    ],
)
def test_it_stops_at_the_leads_of_the_table(strategy: bw.AdaptiveConsistency, answers: str, sampled: str) -> None:
    result = run(strategy, answers)
    assert answers_of(result) == sampled
    assert result.answer == "1"
    assert result.votes == {answer: sampled.count(answer) for answer in "123" if answer in sampled}


def test_confidence_is_the_beta_posterior() -> None:
    result = run(bw.AdaptiveConsistency(), "1211111")
    assert result.confidence == pytest.approx(1 - (8 + 1) / 2**8)  # P(Beta(7, 2) > 1/2) = P(Bin(8, 1/2) <= 6)


def beats_two_others(k: int) -> float:
    """Return P(the share of k votes is the largest) against two answers with one vote each.

    The shares are proportional to independent G ~ Gamma(a) and B, C ~ Gamma(2) with a = k + 1, and
    P(G > max(B, C)) = 1 - 2 P(B > G) + P(G < min(B, C)). P(B > G) = P(Bin(a + 1, 1/2) >= a) = (a + 2) / 2^(a+1);
    min(B, C) survives x with ((1 + x) exp(-x))^2, which has the mean 3^-a + 2a / 3^(a+1) + a(a + 1) / 3^(a+2) over G.
    """
    a = k + 1
    return 1 - 2 * (a + 2) / 2.0 ** (a + 1) + 3.0**-a + 2 * a / 3.0 ** (a + 1) + a * (a + 1) / 3.0 ** (a + 2)


def test_the_dirichlet_rule_counts_every_other_answer() -> None:
    result = run(bw.AdaptiveConsistency(rule="dirichlet"), "23" + "1" * 20)
    assert beats_two_others(6) < 0.95 <= beats_two_others(7)
    assert answers_of(result) == "23" + "1" * 7  # the beta rule stops one path earlier, above
    assert result.confidence == pytest.approx(beats_two_others(7))


def test_both_rules_agree_for_up_to_two_answers() -> None:
    for answers in ("1111111", "1211111111", "2112111111111"):
        beta, dirichlet = (run(bw.AdaptiveConsistency(rule=rule), answers) for rule in ("beta", "dirichlet"))
        assert answers_of(beta) == answers_of(dirichlet)
        assert dirichlet.confidence == pytest.approx(beta.confidence)


def test_decisions_wait_for_the_whole_window() -> None:
    """Four wrong answers finish before any right one. Alone they would reach the threshold."""
    result = run(bw.AdaptiveConsistency(window=5), delayed("2", "1222211111" + "1" * 30))
    # (1, 4), then (6, 4), (11, 4): 11 is the least lead over 4.
    assert answers_of(result) == "1222211111" + "1" * 5
    assert result.answer == "1"


def test_the_first_requested_leads_among_equal_votes() -> None:
    assert run(bw.AdaptiveConsistency(4, window=4), delayed("2", "1221")).answer == "1"


def test_a_failed_branch_is_a_path_without_a_vote() -> None:
    result = run(bw.AdaptiveConsistency(6), [BROKEN, "1", "2"])
    assert answers_of(result) == "1212"
    assert len(result.errors) == 1


def test_a_text_only_backend_is_enough() -> None:
    result = run(bw.AdaptiveConsistency(), "1211111", TEXT_ONLY)
    assert answers_of(result) == "1211111"
    assert len(result.degraded) == 1  # the driver's note that there are no tokens


@pytest.mark.parametrize(
    ("field", "value"), [("paths", 0), ("stop_at", 0.4), ("stop_at", 1.1), ("window", 0), ("rule", "gamma")]
)
def test_fields_are_validated_at_construction(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.AdaptiveConsistency(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
