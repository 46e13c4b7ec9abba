"""Prefix Consistency, with the groups worked by hand.

Every path below is drawn from the prompt first; ends are drawn again in the order of the paths that state an answer.
From the prompt they are twelve tokens long: M0 it is . N0 follows . The answer is 1 .
"""

import pytest

import branchwise as bw
from tests.support.votes_lab import BROKEN, FULL, SAYS, TEXT, Reply, run, stated


def test_answers_that_come_back_outvote_those_that_do_not() -> None:
    # Groups: [1, 3], [1, 3], [1, 3], [2, 2]. A half counts (1/2)^3, a whole 1 for each of two.
    result = run(bw.PrefixConsistency(4), "11123332")
    assert stated(result) == "11123332"
    assert result.votes == pytest.approx({"2": 2.0, "1": 3 / 8, "3": 3 / 8})
    assert result.answer == "2"
    assert result.tallies["plain"].votes == {"1": 3, "3": 3, "2": 2}
    assert result.confidence == pytest.approx(22 / 64)  # P(Beta(3, 4) > 1/2) = P(Bin(6, 1/2) <= 2)


def test_an_end_without_an_answer_is_one_that_did_not_come_back() -> None:
    result = run(bw.PrefixConsistency(2), "12-2")
    assert result.votes == pytest.approx({"2": 2.0, "1": 1 / 8})


def test_paths_without_an_answer_are_not_regrown() -> None:
    result = run(bw.PrefixConsistency(3), "-1-1")
    assert stated(result) == "-1-1"
    assert result.votes == {"1": 2.0}


def test_a_share_is_of_the_whole_group() -> None:
    result = run(bw.PrefixConsistency(1, regrow=2), "112")
    assert result.votes == pytest.approx({"1": 2 * (2 / 3) ** 3, "2": (1 / 3) ** 3})


@pytest.mark.parametrize(
    ("power", "votes"),
    [(0.0, {"1": 3, "3": 3, "2": 2}), (1.0, {"2": 2, "1": 1.5, "3": 1.5}), (2.0, {"2": 2, "1": 0.75, "3": 0.75})],
)
def test_the_power_is_how_much_more_coming_back_counts(power: float, votes: dict[str, float]) -> None:
    assert run(bw.PrefixConsistency(4, power=power), "11123332").votes == pytest.approx(votes)


@pytest.mark.parametrize(("keep", "kept"), [(0.75, 9), (0.5, 6), (0.1, 1), (0.99, 11)])
def test_a_prefix_is_the_first_of_a_paths_tokens(keep: float, kept: int) -> None:
    result = run(bw.PrefixConsistency(2, keep=keep), "1212")
    assert [branch.path.generated for branch in result.paths[:2]] == [12, 12]
    assert [branch.prefix_tokens for branch in result.paths] == [0, 0, kept, kept]
    assert [branch.parent for branch in result.paths] == [None, None, 0, 1]


def test_a_path_too_short_to_cut_votes_as_it_is() -> None:
    """A tenth of five tokens is none, of twelve it is one."""
    result = run(bw.PrefixConsistency(2, keep=0.1), [Reply(SAYS.format(1)), "2", "3"])
    assert [branch.path.generated for branch in result.paths[:2]] == [5, 12]
    assert stated(result) == "123"
    assert result.votes == pytest.approx({"1": 1.0, "2": 1 / 8, "3": 1 / 8})
    assert result.degraded == ()


@pytest.mark.parametrize("keep", [0.75, 0.1])
def test_where_no_path_can_be_cut_the_majority_answers(keep: float) -> None:
    able, replies = (TEXT, list("112")) if keep == 0.75 else (FULL, [Reply(SAYS.format(a)) for a in "112"])
    result = run(bw.PrefixConsistency(3, keep=keep), replies, able)
    assert stated(result) == "112"
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert "prefix-consistency: no path can be cut, so the majority answered" in result.degraded


def test_where_the_budget_ends_before_the_ends_the_paths_vote() -> None:
    strategy, budget = bw.PrefixConsistency(3), bw.Budget(paths=4)
    result = run(strategy, "1122", budget=budget)
    assert stated(result) == "1122"
    assert result.votes == pytest.approx({"1": 1 + 1 / 8, "2": 1 + 1 / 8})
    assert result.outcome is bw.Outcome.PATHS_SPENT


def test_an_end_that_fails_leaves_its_group_and_a_path_that_fails_has_none() -> None:
    result = run(bw.PrefixConsistency(3), ["1", BROKEN, "2", "1", BROKEN])
    assert stated(result) == "121"
    assert result.votes == pytest.approx({"1": 2.0, "2": 1.0})


def test_ends_are_drawn_in_the_order_of_their_paths_whatever_ended_first() -> None:
    replies = [Reply("One. " + SAYS.format(1), delay=0.003), Reply("Two. " + SAYS.format(2)), "1", "3"]
    result = run(bw.PrefixConsistency(2), replies)
    assert [branch.parent for branch in result.paths] == [None, None, 0, 1]
    assert result.votes == pytest.approx({"1": 2.0, "2": 1 / 8, "3": 1 / 8})


@pytest.mark.parametrize(("field", "value"), [("paths", 0), ("keep", 0), ("keep", 1), ("regrow", 0), ("power", -0.5)])
def test_fields_are_checked_at_construction(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.PrefixConsistency(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
