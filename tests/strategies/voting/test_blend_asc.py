"""Blend-ASC: where the paths of a batch go, against a run worked by hand and a simulation in fractions."""

import asyncio
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise as bw
from branchwise.driver import BranchEnded
from tests.support.votes_lab import BROKEN, TEXT, Reply, asked, run, stated


def batch(strategy: bw.BlendASC, scripts: Mapping[str, Sequence[str | Reply]]) -> dict[str, bw.Result]:
    results = asyncio.run(bw.solve_batch(list(scripts), asked(scripts), strategy=strategy))
    return dict(zip(scripts, results, strict=True))


def paths(results: Mapping[str, bw.Result]) -> dict[str, int]:
    return {question: len(result.paths) for question, result in results.items()}


def test_the_least_sure_question_is_next_worked_by_hand() -> None:
    """Eight paths for two questions. Sureness is (1 - spent) beta + spent ratio, spent the share of the eight:

    spent   agreed                         split                            next
    2/8     (1, 0): 3/4 .75  + 1/4 0       (1, 0): the same, and asked later  agreed
    3/8     (2, 0): 5/8 .875 + 3/8 .25     (1, 0): 5/8 .75 + 3/8 0          split
    4/8     .5625                          (1, 1): 1/2 .5  + 1/2 0          split
    5/8     .4844                          (2, 1): 3/8 .6875 + 5/8 0        split
    6/8     .4063                          (2, 2): 1/4 .5  + 3/4 0          split
    7/8     .3281                          (3, 2): 1/8 .6563 + 7/8 0        split

    The ratio of (2, 0) is 1 - 3/4, the density of Beta(3, 1) at 1/2 being 3/4; all others are above 1.
    """
    results = batch(bw.BlendASC(4, window=1), {"agreed": "1", "split": "12"})
    assert stated(results["agreed"]) == "11"
    assert stated(results["split"]) == "121212"
    assert results["split"].answer == "1"
    assert results["agreed"].confidence == pytest.approx(1 - 1 / 2**3)


def test_most_is_most() -> None:
    assert paths(batch(bw.BlendASC(4, most=5, window=1), {"agreed": "1", "split": "12"})) == {"agreed": 3, "split": 5}
    assert paths(batch(bw.BlendASC(4, most=4), {"agreed": "1", "split": "12"})) == {"agreed": 4, "split": 4}


def test_a_window_is_one_path_for_each_of_the_least_sure() -> None:
    assert paths(batch(bw.BlendASC(4, window=2), {"agreed": "1", "split": "12"})) == {"agreed": 4, "split": 4}


def test_split_questions_get_what_unanimous_ones_do_not_need() -> None:
    scripts = {"a": "1", "b": "2", "c": "3", "d": "12", "e": "4", "f": "1234"}
    results = batch(bw.BlendASC(8), scripts)
    drawn = paths(results)
    assert sum(drawn.values()) == 8 * 6
    assert max(drawn[q] for q in "abce") <= 7 < 10 <= min(drawn["d"], drawn["f"])
    assert [results[q].answer for q in "abce"] == ["1", "2", "3", "4"]


def test_a_question_by_itself_gets_all_of_its_paths() -> None:
    assert stated(run(bw.BlendASC(8), "1")) == "11111111"


def test_a_hopeless_question_gets_no_more_than_three() -> None:
    results = batch(bw.BlendASC(8, window=1), {"broken": [BROKEN], "agreed": "1", "split": "12"})
    assert paths(results) == {"broken": 0, "agreed": len(results["agreed"].paths), "split": len(results["split"].paths)}
    assert results["broken"].usage.sampled == 3  # each breaks at its first token
    assert sum(paths(results).values()) + 3 == 8 * 3


def test_a_question_that_failed_at_first_is_not_hopeless() -> None:
    results = batch(bw.BlendASC(8, window=1), {"shaky": [BROKEN, BROKEN, "1", "2"], "agreed": "1"})
    assert len(results["shaky"].paths) > 3


def test_the_run_ends_when_no_question_may_have_more() -> None:
    results = batch(bw.BlendASC(4), {"broken": [BROKEN], "agreed": "1", "capped": "12"})
    assert max(paths(batch(bw.BlendASC(4, most=4), {"broken": [BROKEN], "agreed": "1"})).values()) == 4
    assert sum(paths(results).values()) + 3 == 12


def test_a_batch_that_is_stopped_is_cut_short_as_a_whole() -> None:
    """Whoever has no work under way then might have got more of what was left."""
    stop, ended = bw.Stop(), 0

    def observe(event: bw.RunEvent) -> None:
        nonlocal ended
        ended += isinstance(event, BranchEnded)
        if ended == 5:
            stop.set()

    scripts = {"agreed": "1", "split": "12", "too": "3"}
    solving = bw.solve_batch(
        list(scripts), asked(scripts), strategy=bw.BlendASC(8, window=1), observer=observe, stop=stop
    )
    results = asyncio.run(solving)
    assert [result.outcome for result in results] == [bw.Outcome.CANCELLED] * 3
    assert sum(len(result.paths) for result in results) < 24


def test_what_is_least_sure_depends_on_how_much_is_spent() -> None:
    """Two of two votes against eight of eleven, with thirteen paths spent. Beta says 7/8 and 0.927, the ratio says 1/4
    and 0.033: the first is less sure while little is spent (0.863 and 0.883 of 261), the second towards the end."""
    ended: list[int] = []

    def observe(event: bw.RunEvent) -> None:
        if isinstance(event, BranchEnded):
            ended.append(event.question)

    scripts = {"agreed": "1", "leading": "1212121" + "1" * 200}
    solving = bw.solve_batch(
        list(scripts), asked(scripts), strategy=bw.BlendASC(130, most=260, window=1), observer=observe
    )
    asyncio.run(solving)
    assert (ended[:13].count(0), ended[:13].count(1), ended[13]) == (2, 11, 0)


def test_text_alone_is_enough() -> None:
    result = bw.solve_sync("q", asked({"q": "12"}, TEXT), strategy=bw.BlendASC(8))
    assert stated(result) == "12121212"


def sureness(votes: Sequence[int], spent: Fraction) -> Fraction:
    """In exact numbers: P(Beta(a + 1, b + 1) > 1/2) = P(Bin(a + b + 1, 1/2) <= a), and the density at 1/2."""
    a, b = sorted([*votes, 0, 0], reverse=True)[:2]
    beta = Fraction(sum(comb(a + b + 1, k) for k in range(a + 1)), 2 ** (a + b + 1))
    ratio = 1 - min(Fraction(1), Fraction((a + b + 1) * comb(a + b, a), 2 ** (a + b)))
    return (1 - spent) * beta + spent * ratio


def simulated(scripts: Mapping[str, str], each: int, most: int, window: int) -> dict[str, int]:
    drawn, total = dict.fromkeys(scripts, 1), each * len(scripts)
    while (spent := sum(drawn.values())) < total and min(drawn.values()) < most:
        seen = {q: scripts[q][:n] for q, n in drawn.items() if n < most}
        votes = {q: [text.count(answer) for answer in set(text) - {"-"}] for q, text in seen.items()}
        ranked = sorted(seen, key=lambda q: (sureness(votes[q], Fraction(spent, total)), drawn[q]))
        for question in ranked[: min(window, total - spent)]:
            drawn[question] += 1
    return drawn


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("11112-3", min_size=12, max_size=12), min_size=2, max_size=4), st.integers(1, 3))
def test_paths_go_where_a_simulation_in_fractions_sends_them(texts: list[str], window: int) -> None:
    scripts = dict(zip("abcd", texts, strict=False))
    drawn = paths(batch(bw.BlendASC(6, most=12, window=window), scripts))
    assert drawn == simulated(scripts, 6, 12, window)
    assert sum(drawn.values()) == 6 * len(scripts)


@pytest.mark.parametrize(("field", "value"), [("paths", 0), ("most", 7), ("window", 0)])
def test_fields_are_checked_at_construction(field: str, value: int) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.BlendASC(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
