"""Votes on answers that take long to compare: within the time of the budget, and noted."""

import itertools
import time

import pytest

import branchwise as bw
from branchwise.backends.scripted import ScriptedBackend
from branchwise.driver.fallbacks import SLOW_ANSWERS

SLOW = "\\sum_{{k=1}}^{{10^7}} \\sin(k+{})"  # a second of processor time, then no value


def solve(replies: list[str], seconds: float | None) -> bw.Result:
    turn = itertools.cycle(replies)
    return bw.solve_sync(
        "?",
        ScriptedBackend(lambda _prompt, _number: next(turn)),
        strategy=bw.SelfConsistency(paths=len(replies)),
        budget=bw.Budget(seconds=seconds),
    )


def test_a_time_budget_limits_the_vote() -> None:
    began = time.monotonic()
    result = solve([f"\\boxed{{{SLOW.format(number)}}}" for number in range(40)], seconds=2)
    assert time.monotonic() - began < 6  # 40 seconds without the limit
    assert result.outcome is bw.Outcome.SECONDS_SPENT
    assert len(result.votes) == 40
    assert SLOW_ANSWERS in result.degraded


def test_slow_answers_are_noted_once_and_count_by_their_text() -> None:
    slow = f"\\boxed{{{SLOW.format(1)}}}"
    result = solve(
        [slow, slow, "\\boxed{\\sqrt{8}}", "\\boxed{2\\sqrt{2}}", f"\\boxed{{{SLOW.format(2)}}}"], seconds=None
    )
    assert sorted(result.votes.values()) == [1.0, 2.0, 2.0]
    assert result.degraded == (SLOW_ANSWERS,)


@pytest.mark.parametrize("form", ["({},1)", "\\frac{{\\sqrt{{{}}}}}{{7}}", "x^{{{}}}+1", "\\{{{},-1\\}}"])
def test_forty_scattered_answers_have_forty_votes(form: str) -> None:
    result = solve([f"\\boxed{{{form.format(number)}}}" for number in range(2, 42)], seconds=None)
    assert len(result.votes) == 40
    assert result.degraded == ()
