"""Blend-ASC: the paths of each question, against a run worked out by hand and a simulation in exact fractions."""

import asyncio
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise as bw
from branchwise.backends.scripted.backend import Reply
from branchwise.driver import BranchEnded
from tests.support.vote_scripts import BROKEN, TEXT_ONLY, answers_of, backend_by_question, run


def batch(strategy: bw.BlendASC, scripts: Mapping[str, Sequence[str | Reply]]) -> dict[str, bw.Result]:
    results = asyncio.run(bw.solve_batch(list(scripts), backend_by_question(scripts), strategy=strategy))
    return dict(zip(scripts, results, strict=True))


def paths(results: Mapping[str, bw.Result]) -> dict[str, int]:
    return {question: len(result.paths) for question, result in results.items()}


def test_the_least_confident_question_is_next() -> None:
    """Eight paths for two questions. The confidence is (1 - spent) beta + spent ratio; spent is the share of the eight.

    spent   agreed                         split                            next
    2/8     (1, 0): 3/4 .75  + 1/4 0       (1, 0): equal, and a later question  agreed
    3/8     (2, 0): 5/8 .875 + 3/8 .25     (1, 0): 5/8 .75 + 3/8 0          split
    4/8     .5625                          (1, 1): 1/2 .5  + 1/2 0          split
    5/8     .4844                          (2, 1): 3/8 .6875 + 5/8 0        split
    6/8     .4063                          (2, 2): 1/4 .5  + 3/4 0          split
    7/8     .3281                          (3, 2): 1/8 .6563 + 7/8 0        split

    The ratio of (2, 0) is 1 - 3/4, because the density of Beta(3, 1) at 1/2 is 3/4. All other densities are above 1.
    """
    results = batch(bw.BlendASC(4, window=1), {"agreed": "1", "split": "12"})
    assert answers_of(results["agreed"]) == "11"
    assert answers_of(results["split"]) == "121212"
    assert results["split"].answer == "1"
    assert results["agreed"].confidence == pytest.approx(1 - 1 / 2**3)


def test_most_limits_the_paths_of_a_question() -> None:
    assert paths(batch(bw.BlendASC(4, most=5, window=1), {"agreed": "1", "split": "12"})) == {"agreed": 3, "split": 5}
    assert paths(batch(bw.BlendASC(4, most=4), {"agreed": "1", "split": "12"})) == {"agreed": 4, "split": 4}


def test_a_window_is_one_path_for_each_chosen_question() -> None:
    assert paths(batch(bw.BlendASC(4, window=2), {"agreed": "1", "split": "12"})) == {"agreed": 4, "split": 4}


def test_split_questions_get_more_paths_than_unanimous_ones() -> None:
    scripts = {"a": "1", "b": "2", "c": "3", "d": "12", "e": "4", "f": "1234"}
    results = batch(bw.BlendASC(8), scripts)
    counts = paths(results)
    assert sum(counts.values()) == 8 * 6
    assert max(counts[q] for q in "abce") <= 7 < 10 <= min(counts["d"], counts["f"])
    assert [results[q].answer for q in "abce"] == ["1", "2", "3", "4"]


def test_a_single_question_gets_all_paths() -> None:
    assert answers_of(run(bw.BlendASC(8), "1")) == "11111111"


def test_a_question_that_only_fails_gets_three_paths() -> None:
    results = batch(bw.BlendASC(8, window=1), {"broken": [BROKEN], "agreed": "1", "split": "12"})
    assert paths(results) == {"broken": 0, "agreed": len(results["agreed"].paths), "split": len(results["split"].paths)}
    assert results["broken"].usage.sampled == 3  # each fails at its first token
    assert sum(paths(results).values()) + 3 == 8 * 3


def test_a_question_with_a_finished_path_gets_more_paths() -> None:
    results = batch(bw.BlendASC(8, window=1), {"shaky": [BROKEN, BROKEN, "1", "2"], "agreed": "1"})
    assert len(results["shaky"].paths) > 3


def test_the_run_ends_when_no_question_is_eligible() -> None:
    results = batch(bw.BlendASC(4), {"broken": [BROKEN], "agreed": "1", "capped": "12"})
    assert max(paths(batch(bw.BlendASC(4, most=4), {"broken": [BROKEN], "agreed": "1"})).values()) == 4
    assert sum(paths(results).values()) + 3 == 12


def test_a_stop_cancels_every_question_of_the_batch() -> None:
    """Also a question without open requests: it could have received a part of the remaining budget."""
    stop, ended = bw.Stop(), 0

    def observe(event: bw.RunEvent) -> None:
        nonlocal ended
        if isinstance(event, BranchEnded):
            ended += 1
        if ended == 5:
            stop.set()

    scripts = {"agreed": "1", "split": "12", "too": "3"}
    solving = bw.solve_batch(
        list(scripts), backend_by_question(scripts), strategy=bw.BlendASC(8, window=1), observer=observe, stop=stop
    )
    results = asyncio.run(solving)
    assert [result.outcome for result in results] == [bw.Outcome.CANCELLED] * 3
    assert sum(len(result.paths) for result in results) < 24


def test_the_blend_depends_on_the_spent_budget() -> None:
    """Two of two votes against eight of eleven: Beta gives 7/8 and 0.927, the ratio 1/4 and 0.033.

    The first is less confident while little is spent (0.844 and 0.883 at 13 of 260), the second towards the end.
    """
    ended: list[int] = []

    def observe(event: bw.RunEvent) -> None:
        if isinstance(event, BranchEnded):
            ended.append(event.question)

    scripts = {"agreed": "1", "leading": "1212121" + "1" * 200}
    solving = bw.solve_batch(
        list(scripts), backend_by_question(scripts), strategy=bw.BlendASC(130, most=260, window=1), observer=observe
    )
    asyncio.run(solving)
    assert (ended[:13].count(0), ended[:13].count(1), ended[13]) == (2, 11, 0)


def test_a_text_only_backend_is_enough() -> None:
    result = bw.solve_sync("q", backend_by_question({"q": "12"}, TEXT_ONLY), strategy=bw.BlendASC(8))
    assert answers_of(result) == "12121212"


def blended_confidence(votes: Sequence[int], spent: Fraction) -> Fraction:
    """Return the exact confidence, by P(Beta(a + 1, b + 1) > 1/2) = P(Bin(a + b + 1, 1/2) <= a)."""
    a, b = sorted([*votes, 0, 0], reverse=True)[:2]
    beta = Fraction(sum(comb(a + b + 1, k) for k in range(a + 1)), 2 ** (a + b + 1))
    ratio = 1 - min(Fraction(1), Fraction((a + b + 1) * comb(a + b, a), 2 ** (a + b)))
    return (1 - spent) * beta + spent * ratio


def simulated(scripts: Mapping[str, str], each: int, most: int, window: int) -> dict[str, int]:
    counts, total = dict.fromkeys(scripts, 1), each * len(scripts)
    while (spent := sum(counts.values())) < total and min(counts.values()) < most:
        seen = {q: scripts[q][:n] for q, n in counts.items() if n < most}
        votes = {q: [text.count(answer) for answer in set(text) - {"-"}] for q, text in seen.items()}
        ranked = sorted(seen, key=lambda q: (blended_confidence(votes[q], Fraction(spent, total)), counts[q]))
        for question in ranked[: min(window, total - spent)]:
            counts[question] += 1
    return counts


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("11112-3", min_size=12, max_size=12), min_size=2, max_size=4), st.integers(1, 3))
def test_paths_per_question_match_an_exact_simulation(texts: list[str], window: int) -> None:
    scripts = dict(zip("abcd"[: len(texts)], texts, strict=True))
    counts = paths(batch(bw.BlendASC(6, most=12, window=window), scripts))
    assert counts == simulated(scripts, 6, 12, window)
    assert sum(counts.values()) == 6 * len(scripts)


@pytest.mark.parametrize(("field", "value"), [("paths", 0), ("most", 7), ("window", 0)])
def test_fields_are_validated_at_construction(field: str, value: int) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.BlendASC(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
