"""Prefix Consistency, with the groups worked out by hand.

Paths are sampled from the prompt first; then their ends are regenerated in the order of the paths with an answer.
A path from the prompt has twelve tokens: M0 it is . N0 follows . The answer is 1 .
"""

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply
from tests.support.vote_scripts import ANSWER, BROKEN, TEXT_ONLY, answers_of, run


def test_reproduced_answers_outvote_others() -> None:
    # Groups: [1, 3], [1, 3], [1, 3], [2, 2]. A share of 1/2 votes (1/2)^3; a share of 1 votes 1 for each of the two.
    result = run(bw.PrefixConsistency(4), "11123332")
    assert answers_of(result) == "11123332"
    assert result.votes == pytest.approx({"2": 2.0, "1": 3 / 8, "3": 3 / 8})
    assert result.answer == "2"
    assert result.tallies["plain"].votes == {"1": 3, "3": 3, "2": 2}
    assert result.confidence == pytest.approx(22 / 64)  # P(Beta(3, 4) > 1/2) = P(Bin(6, 1/2) <= 2)


def test_an_end_without_an_answer_lowers_the_share() -> None:
    result = run(bw.PrefixConsistency(2), "12-2")
    assert result.votes == pytest.approx({"2": 2.0, "1": 1 / 8})


def test_paths_without_an_answer_are_not_regenerated() -> None:
    result = run(bw.PrefixConsistency(3), "-1-1")
    assert answers_of(result) == "-1-1"
    assert result.votes == {"1": 2.0}


def test_a_share_is_of_the_whole_group() -> None:
    result = run(bw.PrefixConsistency(1, regrow=2), "112")
    assert result.votes == pytest.approx({"1": 2 * (2 / 3) ** 3, "2": (1 / 3) ** 3})


@pytest.mark.parametrize(
    ("power", "votes"),
    [(0.0, {"1": 3, "3": 3, "2": 2}), (1.0, {"2": 2, "1": 1.5, "3": 1.5}), (2.0, {"2": 2, "1": 0.75, "3": 0.75})],
)
def test_the_power_is_the_exponent_of_the_share(power: float, votes: dict[str, float]) -> None:
    assert run(bw.PrefixConsistency(4, power=power), "11123332").votes == pytest.approx(votes)


@pytest.mark.parametrize(("keep", "kept"), [(0.75, 9), (0.5, 6), (0.1, 1), (0.99, 11)])
def test_a_prefix_keeps_its_share_of_the_tokens(keep: float, kept: int) -> None:
    result = run(bw.PrefixConsistency(2, keep=keep), "1212")
    assert [branch.path.generated for branch in result.paths[:2]] == [12, 12]
    assert [branch.prefix_tokens for branch in result.paths] == [0, 0, kept, kept]
    assert [branch.parent for branch in result.paths] == [None, None, 0, 1]


def test_a_path_too_short_to_cut_votes_alone() -> None:
    """A tenth of five tokens rounds to 0, a tenth of twelve to 1."""
    result = run(bw.PrefixConsistency(2, keep=0.1), [Reply(ANSWER.format(1)), "2", "3"])
    assert [branch.path.generated for branch in result.paths[:2]] == [5, 12]
    assert answers_of(result) == "123"
    assert result.votes == pytest.approx({"1": 1.0, "2": 1 / 8, "3": 1 / 8})
    assert result.degraded == ()


def test_without_continuation_as_many_paths_vote() -> None:
    result = run(bw.PrefixConsistency(3), "112", TEXT_ONLY)
    assert (answers_of(result), result.votes) == ("112112", {"1": 4, "2": 2})


def test_the_majority_answers_if_no_path_can_be_cut() -> None:
    result = run(bw.PrefixConsistency(3, keep=0.1), [Reply(ANSWER.format(a)) for a in "112"])
    assert answers_of(result) == "112"
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert "prefix-consistency: no path can be cut, so the majority answered" in result.degraded


def test_paths_vote_without_regeneration_if_the_budget_is_spent() -> None:
    strategy, budget = bw.PrefixConsistency(3), bw.Budget(paths=4)
    result = run(strategy, "1122", budget=budget)
    assert answers_of(result) == "1122"
    assert result.votes == pytest.approx({"1": 1 + 1 / 8, "2": 1 + 1 / 8})
    assert result.outcome is bw.Outcome.PATHS_SPENT


def test_a_failed_end_or_path_is_not_in_a_group() -> None:
    result = run(bw.PrefixConsistency(3), ["1", BROKEN, "2", "1", BROKEN])
    assert answers_of(result) == "121"
    assert result.votes == pytest.approx({"1": 2.0, "2": 1.0})


def test_ends_are_regenerated_in_the_order_of_the_requests() -> None:
    replies: list[str | Reply] = [
        Reply("One. " + ANSWER.format(1), delay=0.003),
        Reply("Two. " + ANSWER.format(2)),
        "1",
        "3",
    ]
    result = run(bw.PrefixConsistency(2), replies)
    assert [branch.parent for branch in result.paths] == [None, None, 0, 1]
    assert result.votes == pytest.approx({"1": 2.0, "2": 1 / 8, "3": 1 / 8})


@pytest.mark.parametrize(("field", "value"), [("paths", 0), ("keep", 0), ("keep", 1), ("regrow", 0), ("power", -0.5)])
def test_fields_are_validated_at_construction(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.PrefixConsistency(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
