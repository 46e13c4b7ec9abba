"""The draft budget: which drafts are worth their cost."""

import random
from collections.abc import Sequence
from itertools import groupby

import pytest

from branchwise.backends.engine.speculation import draft_budget
from branchwise.backends.engine.speculation.cost_model import CostModel
from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node
from branchwise.backends.engine.speculation.draft_budget import AdaptiveBudget, FixedBudget
from tests.support.drafts import adaptive, chain_of, costs_of_rows


def test_free_rows_are_used_and_costly_ones_only_for_likely_drafts() -> None:
    free = adaptive(costs_of_rows((1, 64), (1.0, 1.0)))
    assert len(free.select([chain_of(0.9, 0.5, 0.1)], [1])[0]) == 3
    # Each row costs as much as a step: no draft is certain enough.
    costly = adaptive(costs_of_rows((1, 64), (1.0, 64.0)))
    assert len(costly.select([chain_of(1.0, 1.0)], [1])[0]) == 0
    # A row costs a fifth of a step. The second token has a probability of 0.36, the third of 0.05.
    some = adaptive(costs_of_rows((1, 11), (1.0, 3.0)))
    assert len(some.select([chain_of(0.8, 0.8, 0.2)], [1])[0]) == 2


def test_the_best_selection_of_all_is_found() -> None:
    random.seed(1)
    for _ in range(50):
        budget = adaptive(costs_of_rows((1, 2, 8, 32), (1.0, random.uniform(1, 1.2), random.uniform(1.2, 2), 5.0)))
        drafts = [chain_of(*(random.random() for _ in range(3))) for _ in range(3)]
        known = [budget.rates.probabilities(draft) for draft in drafts]

        def rate(kept: Sequence[int], known: list[list[float]] = known, budget: AdaptiveBudget = budget) -> float:
            expected = 3 + sum(sum(of_draft[:count]) for of_draft, count in zip(known, kept, strict=True))
            return expected / budget.costs.at(3, 3 + sum(kept))

        best = max(rate((a, b, c)) for a in range(4) for b in range(4) for c in range(4))
        plain = rate((0, 0, 0))
        wanted = best if best > plain * draft_budget._required_gain(3) else plain
        assert rate([len(draft) for draft in budget.select(drafts, [1, 1, 1])]) == pytest.approx(wanted)


def test_more_gain_is_required_among_many_branches() -> None:
    """1.6 tokens for 1.1 of the time are enough for one path; 1.6 for 44/32 of it, a gain of 16%, not for 32."""
    assert draft_budget._required_gain(1) == pytest.approx(1.15, abs=0.02)
    assert draft_budget._required_gain(32) == draft_budget._required_gain(64) == pytest.approx(1.5)
    costs = CostModel((1, 32), ((1, 2), (1, 2)), ((1.0, 1.1), (32.0, 44.0)))
    assert len(adaptive(costs).select([chain_of(0.8)], [1])[0]) == 1
    assert not any(adaptive(costs).select([chain_of(0.8)] * 32, [1] * 32))


def test_pauses_double_until_drafts_pay() -> None:
    budget = adaptive(costs_of_rows((1, 64), (1.0, 64.0)))
    proposing = []
    for _ in range(400):
        proposing.append(budget.nodes(1) > 0)
        if proposing[-1]:
            budget.select([chain_of(1.0)], [1])
    pauses = [len(list(steps)) for active, steps in groupby(proposing) if not active]
    assert pauses[:5] == [8, 16, 32, 64, 128]
    budget.costs = costs_of_rows((1, 64), (1.0, 1.0))
    while not budget.nodes(1):
        pass
    assert len(budget.select([chain_of(1.0)], [1])[0]) == 1
    assert budget._next_pause == 8
    budget.select([Draft()], [1])  # an empty draft says nothing about the cost
    assert budget._useless_steps == 0


def test_a_smaller_batch_ends_a_pause() -> None:
    budget = adaptive(costs_of_rows((1, 64), (1.0, 64.0)))
    while budget.nodes(8):
        budget.select([chain_of(1.0)] * 8, [1] * 8)
    assert budget.nodes(5) == 0
    assert budget.nodes(4) > 0


def test_the_length_of_a_chain_follows_its_cost_and_acceptance() -> None:
    budget = adaptive(costs_of_rows((1, 64), (1.0, 1.0)))
    for _ in range(200):
        budget.record(Draft([Node(ROOT, 1, 0.9, 1, 1, "d")]), [0])

    def chain_length(seconds: float) -> int:
        return budget.chain_length("d", lambda _: seconds, 1)

    lengths = [chain_length(seconds) for seconds in (0.001, 0.3, 2.0)]
    assert lengths[0] == draft_budget._MAX_CHAIN
    assert lengths[0] >= lengths[1] > lengths[2] == 0
    for _ in range(2000):
        budget.record(Draft([Node(ROOT, 1, 0.9, 1, 1, "d")]), [])
    assert budget.chain_length("d", lambda _: 0.3, 1) == 0
    assert budget.chain_length("d", lambda _: 0.0, 1) == draft_budget._MAX_NODES


def test_a_fixed_budget_measures_nothing() -> None:
    def seconds(groups: int) -> float:
        raise AssertionError("measured")

    assert FixedBudget(3).chain_length("d", seconds, 1) == 3
