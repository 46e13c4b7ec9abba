"""Every tree search under limits: budgets, stops, and backends with fewer capabilities."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.driver import BranchEnded
from branchwise.search.state import SearchState
from branchwise.search.values import ValueName
from tests.support.search_scripts import RecordingStrategy
from tests.support.searches import FULL, SEARCHES, backend, every_search, outcome, solve


def answers_if_valued(result: bw.Result) -> bool:
    """Return True if the result has an answer exactly if the tree has a valued one."""
    valued = [n for n in result.tree.nodes if n.answer is not None and n.value is not None]
    return (result.answer is not None) == bool(valued)


@every_search
def test_any_token_budget_leaves_the_best_answer_so_far(name: str) -> None:
    whole = solve(SEARCHES[name])
    seen = set()
    for tokens in range(1, whole.usage.sampled + 13, 3):
        result = solve(SEARCHES[name], budget=bw.Budget(tokens=tokens))
        assert result.usage.sampled <= tokens
        assert answers_if_valued(result), tokens
        seen.add(result.outcome)
        if result.outcome is bw.Outcome.COMPLETE:
            assert outcome(result) == outcome(whole)
    assert seen == {bw.Outcome.TOKENS_SPENT, bw.Outcome.COMPLETE}


@every_search
@pytest.mark.parametrize("value", ["verifier", "rollouts"])
def test_any_path_budget_leaves_the_best_answer_so_far(name: str, value: ValueName) -> None:
    strategy = replace(SEARCHES[name], value=value)
    for paths in range(1, 24, 2):
        result = solve(strategy, budget=bw.Budget(paths=paths))
        assert len(result.paths) <= paths
        if value == "verifier":
            assert answers_if_valued(result), paths
        assert result.outcome in (bw.Outcome.COMPLETE, bw.Outcome.PATHS_SPENT, bw.Outcome.NO_ANSWER)


class CheckingBudget(RecordingStrategy):
    """Checks that no branch is requested after the budget has refused one."""

    refused = False

    def tell(self, state: list[SearchState], event: bw.Event) -> None:
        self.refused = self.refused or (isinstance(event, bw.Failed) and isinstance(event.error, bw.BudgetError))
        super().tell(state, event)

    def ask(self, state: list[SearchState]) -> Sequence[bw.Action]:
        actions = super().ask(state)
        assert not self.refused or not any(isinstance(action, bw.Extend) for action in actions)
        return actions


@every_search
def test_a_spent_budget_gets_no_further_request(name: str) -> None:
    refused = 0
    for paths in range(1, 12):
        recorder = CheckingBudget(SEARCHES[name])
        solve(recorder, budget=bw.Budget(paths=paths))
        refused += recorder.refused
    assert refused


@every_search
def test_a_tree_keeps_its_maximum_number_of_nodes(name: str) -> None:
    whole = len(solve(SEARCHES[name]).tree.nodes) - 1
    for most in range(1, whole + 2):
        result = solve(replace(SEARCHES[name], nodes=most))
        assert len(result.tree.nodes) - 1 == min(most, whole)
        assert answers_if_valued(result)


@every_search
def test_a_path_keeps_its_maximum_steps_and_tokens(name: str) -> None:
    for most in (1, 2):
        tree = solve(replace(SEARCHES[name], max_steps=most)).tree
        assert max(len(tree.path(node.number)) for node in tree.nodes) - 1 <= most
    for limit in range(1, 9):
        result = solve(replace(SEARCHES[name], sampling=bw.Sampling(max_tokens=limit)))
        assert (
            max(sum(result.tree.nodes[n].tokens for n in result.tree.path(k.number)) for k in result.tree.nodes)
            <= limit
        )


@every_search
def test_a_search_stopped_at_any_branch_keeps_its_tree(name: str) -> None:
    whole = solve(SEARCHES[name])
    ends = len(whole.paths)
    for after in range(1, ends + 1):
        stop = bw.Stop()
        ended: list[int] = []

        def listen(event: object, after: int = after, stop: bw.Stop = stop, ended: list[int] = ended) -> None:
            if isinstance(event, BranchEnded):
                ended.append(event.branch)
                if len(ended) == after:
                    stop.set()

        result = solve(SEARCHES[name], stop=stop, observer=listen)
        assert (result.answer is not None) == any(branch.answer is not None for branch in result.paths)
        assert len(ended) >= after
        assert result.outcome in (bw.Outcome.CANCELLED, bw.Outcome.COMPLETE, bw.Outcome.NO_ANSWER)
        nodes = [(n.number, n.parent, n.text) for n in result.tree.nodes]
        assert nodes == [(n.number, n.parent, n.text) for n in whole.tree.nodes][: len(nodes)]


# Backends with fewer capabilities


@every_search
@pytest.mark.parametrize(
    ("capabilities", "note"),
    [
        (replace(FULL, prefix_reuse=0), "keeps no prefixes"),
        (replace(FULL, token_in=False), "tokenized again"),
        (replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0), "shows no tokens"),
        (replace(FULL, per_branch_cancel=False, keyed=False), "does not sample by key"),
    ],
)
def test_fewer_capabilities_give_the_same_tree_and_a_note(name: str, capabilities: bw.Capabilities, note: str) -> None:
    result, plain = solve(SEARCHES[name], backend=backend(capabilities=capabilities)), solve(SEARCHES[name])
    if "tokenized again" not in note or SEARCHES[name].step != "path":
        assert any(note in reason for reason in result.degraded)
    if name in ("mcts-puct", "a-star") and not capabilities.logprobs:
        assert result.answer is not None  # these searches select by log-probabilities
        return
    assert [(n.parent, n.text, n.value, n.state) for n in result.tree.nodes] == [
        (n.parent, n.text, n.value, n.state) for n in plain.tree.nodes
    ]
    assert result.votes == plain.votes


async def test_a_stop_during_verification_outranks_a_spent_token_budget() -> None:
    async def outcome_of(stopped: bool) -> bw.Outcome:
        stop = bw.Stop()

        async def verifier(path: bw.Path) -> float:
            if stopped:
                stop.set()
                await asyncio.sleep(60)
            return 1.0

        scripted = ScriptedBackend({"": ["The answer is 1."]})  # five tokens
        strategy, budget = bw.BestOfN(4, value="verifier"), bw.Budget(tokens=7)
        return (await bw.solve("q", scripted, strategy=strategy, budget=budget, verifier=verifier, stop=stop)).outcome

    assert await outcome_of(stopped=False) is bw.Outcome.TOKENS_SPENT
    assert await outcome_of(stopped=True) is bw.Outcome.CANCELLED
