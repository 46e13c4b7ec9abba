"""DeepConf online, worked out path by path."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from tests.support.vote_scripts import (
    BROKEN,
    FULL,
    NO_LOGPROBS,
    TEXT_ONLY,
    ReplyWithLogprobs,
    answers_of,
    confident,
    run,
)

# The warm-up: confidences 4, 3, 2, 1. At a keep of 3/4 the threshold is 2, and 6 of the weight of 9 is for "1".
WARM_UP = [confident("1", 4), confident("2", 3), confident("1", 2), confident("2", 1)]
STRATEGY = bw.DeepConfOnline(8, warm_up=4, keep=0.75, group=4, window=2)
# Groups of four end at every token. This path's fall from 3 to 2 at its 14th token, and to 1.5 at its 15th. The second
# check cancels it; there is a check every eight tokens.
FALLS = replace(confident("2", *[3] * 12, 1, words=35), delay=0.001)
CONFIDENT = confident("1", 5)
AT_THRESHOLD = confident("1", 2)
# Below the threshold between its last check, at 16 tokens, and its end at 18: it is not cancelled and does not vote.
ENDS_BELOW = confident("2", *[3] * 16, 0, words=13)
PATHS = [*WARM_UP, FALLS, CONFIDENT, AT_THRESHOLD, ENDS_BELOW]


def test_a_run_worked_out_by_hand() -> None:
    result = run(STRATEGY, PATHS)
    assert [branch.number for branch in result.paths] == [0, 1, 2, 3, 5, 6, 7]
    assert 16 <= result.usage.discarded < 40
    assert result.votes == pytest.approx({"1": 4 + 2 + 5 + 2, "2": 3})
    assert result.tallies["plain"].votes == {"1": 4, "2": 3}
    assert result.outcome is bw.Outcome.COMPLETE
    assert result.errors == ()


def test_a_group_may_span_two_checks() -> None:
    """Tokens 15 to 18 have low confidence. Groups from the 17th on are below the threshold; the check at 24 cancels."""
    dips = replace(confident("2", *[3] * 14, *[1] * 4, 3, words=60), delay=0.001)
    result = run(STRATEGY, [*WARM_UP, dips, CONFIDENT, AT_THRESHOLD, AT_THRESHOLD])
    assert 4 not in [branch.number for branch in result.paths]
    assert 24 <= result.usage.discarded < 65


def test_a_dip_shorter_than_a_group_is_averaged_out() -> None:
    """One token of 0 among 3s: groups of four fall to 2.25; of two, to 1.5."""
    dips = confident("2", *[3] * 14, 0, 3, words=30)
    replies = [*WARM_UP, dips, CONFIDENT, AT_THRESHOLD, AT_THRESHOLD]
    assert run(STRATEGY, replies).votes == pytest.approx({"1": 4 + 2 + 5 + 2 + 2, "2": 3 + 2.25})
    assert run(replace(STRATEGY, group=2), replies).votes == pytest.approx({"1": 4 + 2 + 5 + 2 + 2, "2": 3})


def test_a_path_is_checked_by_whole_groups() -> None:
    """Eight tokens of 1 at the first check are no group of twelve; the first group has the mean (8 + 4 * 7) / 12."""
    warms = confident("2", *[1] * 8, 7, words=30)
    result = run(replace(STRATEGY, group=12), [*WARM_UP, warms, CONFIDENT, CONFIDENT, CONFIDENT])
    assert result.votes == pytest.approx({"1": 4 + 2 + 5 * 3, "2": 3 + 3})


@pytest.mark.parametrize(
    ("keep", "votes"),
    [(1.0, {"1": 6, "2": 4}), (0.75, {"1": 6, "2": 3}), (0.5, {"1": 4, "2": 3}), (0.25, {"1": 4})],
)
def test_warm_up_paths_at_or_above_the_threshold_vote(keep: float, votes: dict[str, float]) -> None:
    for paths, warm_up in ((4, 4), (4, 16), (5, 4)):  # the last path is broken
        strategy = replace(STRATEGY, paths=paths, warm_up=warm_up, keep=keep)
        assert run(strategy, [*WARM_UP, BROKEN]).votes == pytest.approx(votes)


@pytest.mark.parametrize(
    ("consensus", "requested"),
    [(0.66, 4), (0.7, 6), (0.78, 6), (0.8, 8)],  # shares: 6/9, then 11/14 = 0.786, then 13/16
)
def test_it_stops_at_consensus(consensus: float, requested: int) -> None:
    result = run(replace(STRATEGY, consensus=consensus), PATHS)
    assert max(branch.number for branch in result.paths) == requested - 1


def test_a_unanimous_warm_up_is_enough() -> None:
    assert answers_of(run(STRATEGY, [confident("1", 4), confident("1", 1)])) == "1111"


@pytest.mark.parametrize(("window", "counts"), [(1, 5), (2, 6), (4, 8)])
def test_a_window_is_sampled_completely(window: int, counts: int) -> None:
    """One more vote for 1 would be enough: (6 + 5) / 14 is above 0.75."""
    strategy = replace(STRATEGY, window=window, consensus=0.75)
    assert len(run(strategy, [*WARM_UP, *[CONFIDENT] * 4]).paths) == counts


def test_equal_paths_reach_the_threshold_they_set() -> None:
    confidences = [math.sin(n) * 7 + 9 for n in range(200)]
    same = [confident(answer, *confidences, words=195) for answer in "12"]
    result = run(bw.DeepConfOnline(24, warm_up=4, keep=1.0), same)
    assert result.usage.discarded == 0
    assert result.tallies["plain"].votes == {"1": 12, "2": 12}
    assert result.votes["1"] == pytest.approx(result.votes["2"])


@pytest.mark.parametrize("capabilities", [TEXT_ONLY, NO_LOGPROBS])
def test_without_alternatives_the_majority_of_all_paths_answers(capabilities: bw.Capabilities) -> None:
    result = run(STRATEGY, [*PATHS[:4], *[confident("2", 1)] * 4], capabilities)
    assert (result.answer, result.votes) == ("2", {"2": 6, "1": 2})
    assert any(note.startswith("deepconf-online: no path has the top log-probabilities") for note in result.degraded)


def test_a_backend_that_cannot_cancel_samples_paths_to_the_end() -> None:
    result = run(STRATEGY, PATHS, replace(FULL, per_branch_cancel=False))
    assert result.votes == pytest.approx({"1": 13, "2": 3})
    assert result.usage.discarded == 40
    assert any("cannot stop one branch" in note for note in result.degraded)


@pytest.mark.parametrize("failing", [[BROKEN] * 4, [BROKEN, *WARM_UP[1:]]])
def test_a_warm_up_may_fail(failing: Sequence[ReplyWithLogprobs]) -> None:
    result = run(STRATEGY, [*failing, *[CONFIDENT] * 4])
    assert result.answer == "1"
    assert result.outcome is bw.Outcome.COMPLETE


@pytest.mark.parametrize(
    ("field", "value"),
    [("paths", 0), ("warm_up", 0), ("keep", 0), ("keep", 2), ("consensus", 0.4), ("group", 0), ("window", 0)],
)
def test_fields_are_validated_at_construction(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.DeepConfOnline(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
