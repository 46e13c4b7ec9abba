"""Adaptive path-consistency, window by window and part by part.

A path of `backend_for` has twelve tokens. P(final) below is Beta-binomial. With votes a and b for the first two answers
and n paths left, x of them for the leader has the weight C(x + a, a) C(n - x + b, b). The weights sum to
C(n + a + b + 1, n).
"""

from dataclasses import replace
from math import comb

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply
from tests.support.vote_scripts import BROKEN, TEXT_ONLY, answers_of, delayed, run

ROOTED = bw.AdaptivePathConsistency(10, stop_at=0.95, stakes=False, ties=0)
STAKED = replace(ROOTED, stakes=True)


def origins(result: bw.Result) -> str:
    """Return the origin of each branch: R for the prompt, or the number of steps of its prefix."""
    texts = [branch.path.parent.answer_text for branch in result.paths if branch.path.parent is not None]
    return "".join(str(text.count(".")) if text else "R" for text in texts)


def test_three_agreeing_paths_of_forty_end_the_question() -> None:
    assert answers_of(run(bw.AdaptivePathConsistency(), "1")) == "111"
    # The risk: 16 or fewer of the 37 left, times a stake of 4/5; after two paths 17 or fewer of 38, times 3/4.
    assert comb(20, 4) / comb(41, 4) * 4 / 5 == pytest.approx(0.038, abs=1e-3)
    assert comb(20, 3) / comb(41, 3) * 3 / 4 == pytest.approx(0.080, abs=1e-3)


@pytest.mark.parametrize(
    ("strategy", "answers", "sampled"),
    [
        # (2, 0) is final with 1 - 10/165 = 0.939, (3, 0) with 1 - 5/330 = 0.985.
        (ROOTED, "1", "111"),
        # After (2, 1), (3, 1) is not enough: 1 - 31/462 = 0.933; (4, 1) is: 1 - 6/462 = 0.987.
        (ROOTED, "1211111", "12111"),
        (ROOTED, "-1-11", "-1-1"),  # two are enough if six are left: 1 - 4/84 = 0.952
        (replace(ROOTED, window=1), "1", "111"),
        # After endlessly many paths: the table of smallest leads, 4 against 0 and 6 against 1.
        (replace(ROOTED, horizon=False), "1", "1111"),
        (replace(ROOTED, horizon=False), "1211111111", "1211111"),
        # A lead that the remaining paths can't make up: 3 with 2 left, 5 with 5 left.
        (replace(ROOTED, paths=7, stop_at=1.0), "11211", "11211"),
        (replace(ROOTED, stop_at=1.0), "1", "11111"),
        (replace(ROOTED, stop_at=None), "1", "1" * 10),
        (replace(ROOTED, stop_at=0.9), "1", "11"),
        # The stake of (2, 0) is 3/4: 10/165 x 3/4 = 0.045. That of (3, 1) is 2/3: 31/462 x 4/6 = 0.045.
        (STAKED, "1", "11"),
        (STAKED, "1211111", "1211"),
        # Scattered votes: (2, 1) of seven with three left is final with 1 - 4/35, at a stake of 1/3: 0.038. Of six with
        # four left it is 17/70 x 3/8 = 0.091. Without stakes it takes a lead that one remaining path can't make up.
        (STAKED, "1231456789", "1231456"),
        (ROOTED, "1231456789", "123145678"),
        # Paths without an answer have no vote: (2, 0) with five left has 6/84 x 3/4 = 0.054.
        (replace(STAKED, stop_at=0.96), "1---11", "1---11"),
    ],
)
def test_it_stops_once_the_answer_is_final(strategy: bw.AdaptivePathConsistency, answers: str, sampled: str) -> None:
    for probe in (True, False):
        result = run(replace(strategy, probe=probe), answers)
        assert answers_of(result) == sampled
        assert result.votes == {answer: sampled.count(answer) for answer in sampled if answer != "-"}
        assert result.answer == "1"


# The answers of the table of path-consistency. Pooled counts of (1, 2) after each window, at 0.8:
# (4, 1) reaches it; (5, 5) does not; (10, 5) reaches it; (15, 5).
ANSWERS = "11121222211111111111"
PREFIXED = bw.AdaptivePathConsistency(20, stop_at=None, max_level=3, ties=0)


@pytest.mark.parametrize(
    ("strategy", "starts"),
    [
        (PREFIXED, "RRRRRR1R1RRRRRRR1R1R"),
        (replace(PREFIXED, step_back=False), "RRRRRR1R1R1R1R1R2R2R"),
        (replace(PREFIXED, step_back=False, max_level=1), "RRRRRR1R1R1R1R1R1R1R"),
        (replace(PREFIXED, root_share=0.25), "RRRRR11R11RRRRRR111R"),
        (replace(PREFIXED, root_share=1.0), "R" * 20),
        (replace(PREFIXED, threshold=0.95), "R" * 20),  # 12 are needed over 5
        (replace(PREFIXED, max_level=0), "R" * 20),
    ],
)
def test_prefixes_follow_the_table(strategy: bw.AdaptivePathConsistency, starts: str) -> None:
    result = run(strategy, ANSWERS)
    assert origins(result) == starts
    assert result.votes == {"1": 15, "2": 5}
    # The confidence is that of the paths from the prompt alone.
    from_prompt = [answer for answer, start in zip(ANSWERS, starts, strict=True) if start == "R"]
    assert result.tallies["root"].votes == {answer: from_prompt.count(answer) for answer in "12"}
    assert result.confidence == result.tallies["root"].confidence
    assert result.tallies["pooled"].votes == {"1": 15, "2": 5}


def test_prefixes_are_those_of_the_leaders_paths() -> None:
    starts = {branch.path.parent.answer_text for branch in run(PREFIXED, ANSWERS).paths[5:10] if branch.path.parent}
    assert starts <= {"", "M0 it is.", "M1 it is.", "M2 it is.", "M4 it is."}


def test_paths_that_continue_a_prefix_do_not_stop_the_question() -> None:
    """One of four paths is from the prompt: (3, 1), (4, 1), (5, 1), (6, 1). All paths have (7, 1) after eight."""
    strategy = bw.AdaptivePathConsistency(
        40, window=4, probe=False, stop_at=0.95, horizon=False, stakes=False, max_level=3, root_share=0.25
    )
    result = run(strategy, "1112" + "1" * 36)
    assert len(result.paths) == 16
    assert result.tallies["root"].votes == {"1": 6, "2": 1}


# Ties. There is no stop, so the vote is checked for a tie after eight of twelve paths.
TIED = bw.AdaptivePathConsistency(12, stop_at=None, ties=2)


@pytest.mark.parametrize(
    ("strategy", "answers", "regenerated", "votes"),
    [
        # Groups [1, 1], [1, 1], [2, 2], [2, 1]: two, two, two, and (1/2)^3 for each of the last.
        (TIED, "121212121121", [0, 2, 1, 3], {"1": 6.125, "2": 4.125}),
        (replace(TIED, power=1.0), "121212121121", [0, 2, 1, 3], {"1": 6.5, "2": 4.5}),
        # After ten, one path of each: [1, 1] and [2, 3]; the others have plain votes.
        (replace(TIED, ties=1), "121212121213", [0, 1], {"1": 6, "2": 4.125, "3": 0.125}),
        (replace(TIED, ties=1), "12121212121-", [0, 1], {"1": 6, "2": 4.125}),
        (replace(TIED, ties=0), "121212121212", [], {"1": 6, "2": 6}),
        (replace(TIED, ties=9), "121212121121", [0, 2, 1, 3], {"1": 6.125, "2": 4.125}),  # a sixth of the paths
        (replace(TIED, paths=5), "12121", [], {"1": 3, "2": 2}),
        # The confidence of (5, 3) is 382/512 = 0.746, that of (6, 2) 466/512 = 0.910. The vote is checked once.
        (TIED, "121211121112", [0, 2, 1, 3], {"1": 7.125, "2": 3.125}),
        (replace(TIED, tie_below=0.74), "121211122222", [], {"2": 7, "1": 5}),
        (TIED, "121111122222", [], {"1": 6, "2": 6}),
        (replace(TIED, tie_below=0.92), "121111121122", [0, 2, 1, 7], {"1": 8, "2": 4}),
        # Only the first two answers are regenerated, if each has two paths and the third has fewer than they.
        (TIED, "123123121111", [0, 3, 1, 4], {"1": 5.25, "3": 2, "2": 1.25}),
        (TIED, "123123112222", [], {"2": 6, "1": 4, "3": 2}),
        (TIED, "1-2-1---2222", [], {"2": 5, "1": 2}),
        (TIED, "123456781299", [], {"1": 2, "2": 2, "9": 2, **dict.fromkeys("345678", 1)}),
        (TIED, "111111111111", [], {"1": 12}),
    ],
)
def test_a_nearly_even_vote_regenerates_the_leaders_paths(
    strategy: bw.AdaptivePathConsistency, answers: str, regenerated: list[int], votes: dict[str, float]
) -> None:
    result = run(strategy, answers)
    assert answers_of(result) == answers
    assert [branch.parent for branch in result.paths if branch.parent is not None] == regenerated
    assert result.votes == pytest.approx(votes)
    assert list(result.votes) == list(votes)
    from_prompt = [answer for answer, branch in zip(answers, result.paths, strict=True) if branch.parent is None]
    assert result.tallies["root"].votes == {
        answer: from_prompt.count(answer) for answer in from_prompt if answer != "-"
    }


@pytest.mark.parametrize(("keep", "kept"), [(0.75, 9), (0.5, 6)])
def test_a_regenerated_path_keeps_its_share_of_tokens(keep: float, kept: int) -> None:
    result = run(replace(TIED, keep=keep), "121212121122")
    assert [branch.prefix_tokens for branch in result.paths] == [0] * 8 + [kept] * 4


def test_without_tokens_a_tie_samples_the_remaining_paths() -> None:
    result = run(TIED, "121212121112", TEXT_ONLY)
    assert (answers_of(result), result.votes) == ("121212121112", {"1": 7, "2": 5})
    assert any("can't be cut" in note for note in result.degraded)


def test_without_a_tie_there_is_no_note() -> None:
    assert not any("can't be cut, so" in note for note in run(TIED, "111211121112", TEXT_ONLY).degraded)


def test_plain_votes_do_not_stop_the_question_after_a_tie() -> None:
    """(5, 3) is nearly even. Of the paths to regenerate, those of 1 have too few tokens (a tenth of five).

    After the two others (5, 3) with two paths left would be final, but the weighted votes are (5, 5).
    """
    short = Reply("The answer is 1.")
    strategy = bw.AdaptivePathConsistency(12, ties=2, keep=0.1, stop_at=0.99)
    result = run(strategy, [short, "2", short, *"211212222"])
    assert answers_of(result) == "121211212222"
    assert [branch.parent for branch in result.paths] == [None] * 8 + [1, 3, None, None]
    assert result.votes == {"2": 7, "1": 5}


def test_a_final_vote_is_not_checked_for_a_tie() -> None:
    """(2, 1) is final with one path left, at a confidence below 0.8."""
    assert answers_of(run(bw.AdaptivePathConsistency(4), "1212")) == "121"


def test_a_failed_or_refused_end_leaves_the_plain_vote() -> None:
    for replies, budget in (([*"1212121212", BROKEN, BROKEN], None), ("12" * 5, bw.Budget(paths=10))):
        assert run(replace(TIED, ties=1), replies, budget=budget).votes == {"1": 5, "2": 5}


def test_decisions_wait_for_the_whole_window() -> None:
    """Paths with the answer 2 finish first.

    (1, 2) after three; (3, 2) after five is final with 1 - 81/462, (4, 2) after six with 1 - 15/330 = 0.955.
    """
    assert answers_of(run(ROOTED, delayed("2", "1221111111"))) == "122111"


def test_without_continuation_every_path_starts_at_the_prompt() -> None:
    result = run(replace(PREFIXED, ties=3), "12" * 10, TEXT_ONLY)
    assert (origins(result), result.votes) == ("R" * 20, {"1": 10, "2": 10})
    assert any("so paths from the prompt voted instead" in note for note in result.degraded)


def test_a_probe_is_drawn_before_any_other_path_begins() -> None:
    for strategy, first in ((ROOTED, 1), (replace(ROOTED, probe=False), 3)):
        state = strategy.start([bw.Path(parent=None, key=1, token_ids=(1,), text="")])
        assert [action.count for action in strategy.ask(state) if isinstance(action, bw.Extend)] == [first]
        assert not strategy.ask(state)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("paths", 0), ("window", 0), ("stop_at", 0.4), ("max_level", -1), ("threshold", 0.3), ("root_share", 0)],
        *[("root_share", 1.5), ("ties", -1), ("tie_below", 1.2), ("keep", 1), ("power", -1)],
    ],
)
def test_fields_are_validated_at_construction(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.AdaptivePathConsistency(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
