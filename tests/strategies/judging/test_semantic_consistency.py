"""Semantic consistency: groups of replies that a judge calls the same."""

from collections.abc import Callable

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply
from tests.support.judge_script import judged_backend, sections

CITIES = {"It is Paris.": "p", "Paris, I think": "p", "Rome": "r", "The city of Rome": "r", "Paris!": "p", "Oslo": "o"}


def same_city(prompt: str) -> str:
    shown = sections(prompt)
    return "Yes" if CITIES[shown["First answer"]] == CITIES[shown["Second answer"]] else "No."


def solve(paths: int, judge: Callable[[str], str | Reply] = same_city, budget: bw.Budget | None = None) -> bw.Result:
    backend = judged_backend(list(CITIES), judge)
    return bw.solve_sync("Which city?", backend, strategy=bw.SemanticConsistency(paths), budget=budget)


def test_replies_that_mean_the_same_vote_together() -> None:
    result = solve(6)
    assert result.answer == "It is Paris."
    assert result.votes == {"It is Paris.": 3, "Rome": 2, "Oslo": 1}
    assert result.confidence == pytest.approx(0.65625)  # P(Beta(4, 3) > 1/2)


def test_equal_texts_are_not_compared() -> None:
    compared = []

    def judge(prompt: str) -> str:
        compared.append(prompt)
        return same_city(prompt)

    result = solve(12, judge)
    assert result.votes == {"It is Paris.": 6, "Rome": 4, "Oslo": 2}
    assert len(compared) == 1 + 1 + 2 + 2 + 2  # with the first reply of every group so far


@pytest.mark.parametrize("reply", ["I can't say.", Reply("Oh no", fail_after=1)])
def test_a_judge_without_verdicts_leaves_the_replies_apart(reply: str | Reply) -> None:
    result = solve(6, lambda prompt: reply)
    assert result.votes == dict.fromkeys(CITIES, 1)
    assert result.answer == "It is Paris."
    assert result.errors or "could not be read" in result.degraded[-1]


def test_a_spent_budget_keeps_the_groups_so_far() -> None:
    whole = solve(6).usage.sampled
    for limit in range(whole - 1, 20, -1):
        result = solve(6, budget=bw.Budget(tokens=limit))
        assert result.usage.sampled <= limit
        assert sum(result.votes.values()) == sum(branch.answer is not None for branch in result.paths)
        assert result.answer is not None
