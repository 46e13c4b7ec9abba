"""What every tree search keeps to where it may or can do less: budgets, limits, stops, and less able backends."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.driver import BranchEnded
from branchwise.search.search import Search
from tests.support.search_lab import Watched
from tests.support.searches import FULL, SEARCHES, ask, backend, every_search, shape


def best_so_far(result: bw.Result) -> bool:
    """Whether there is an answer where one was found and judged."""
    judged = [n for n in result.tree.nodes if n.answer is not None and n.value is not None]
    return (result.answer is not None) == bool(judged)


@every_search
def test_a_token_budget_that_runs_out_anywhere_leaves_the_best_answer_so_far(name: str) -> None:
    whole = ask(SEARCHES[name])
    seen = set()
    for tokens in range(1, whole.usage.sampled + 13, 3):
        result = ask(SEARCHES[name], budget=bw.Budget(tokens=tokens))
        assert result.usage.sampled <= tokens
        assert best_so_far(result), tokens
        seen.add(result.outcome)
        if result.outcome is bw.Outcome.COMPLETE:
            assert shape(result) == shape(whole)
    assert seen == {bw.Outcome.TOKENS_SPENT, bw.Outcome.COMPLETE}


@every_search
@pytest.mark.parametrize("value", ["verifier", "rollouts"])
def test_a_path_budget_that_runs_out_anywhere_leaves_the_best_answer_so_far(name: str, value: str) -> None:
    strategy = replace(SEARCHES[name], value=value)
    for paths in range(1, 24, 2):
        result = ask(strategy, budget=bw.Budget(paths=paths))
        assert len(result.paths) <= paths
        if value == "verifier":
            assert best_so_far(result), paths
        assert result.outcome in (bw.Outcome.COMPLETE, bw.Outcome.PATHS_SPENT, bw.Outcome.NO_ANSWER)


class Spent(Watched):
    """Asks for no branch once it was told that the budget is spent."""

    refused = False

    def tell(self, state: list[Search], event: bw.Event) -> None:
        self.refused = self.refused or (isinstance(event, bw.Failed) and isinstance(event.error, bw.BudgetError))
        super().tell(state, event)

    def ask(self, state: list[Search]) -> Sequence[bw.Action]:
        actions = super().ask(state)
        assert not self.refused or not any(isinstance(action, bw.Extend) for action in actions)
        return actions


@every_search
def test_a_spent_budget_is_not_asked_again(name: str) -> None:
    refused = 0
    for paths in range(1, 12):
        watched = Spent(SEARCHES[name])
        ask(watched, budget=bw.Budget(paths=paths))
        refused += watched.refused
    assert refused


@every_search
def test_a_tree_has_no_more_nodes_than_it_may(name: str) -> None:
    whole = len(ask(SEARCHES[name]).tree.nodes) - 1
    for most in range(1, whole + 2):
        result = ask(replace(SEARCHES[name], nodes=most))
        assert len(result.tree.nodes) - 1 == min(most, whole)
        assert best_so_far(result)


@every_search
def test_a_path_has_no_more_steps_and_tokens_than_it_may(name: str) -> None:
    for most in (1, 2):
        tree = ask(replace(SEARCHES[name], max_steps=most)).tree
        assert max(len(tree.path(node.number)) for node in tree.nodes) - 1 <= most
    for limit in range(1, 9):
        result = ask(replace(SEARCHES[name], sampling=bw.Sampling(max_tokens=limit)))
        assert (
            max(sum(result.tree.nodes[n].tokens for n in result.tree.path(k.number)) for k in result.tree.nodes)
            <= limit
        )


@every_search
def test_a_search_that_is_stopped_anywhere_keeps_what_it_has(name: str) -> None:
    whole = ask(SEARCHES[name])
    ends = len(whole.paths)
    for after in range(1, ends + 1):
        stop, heard = bw.Stop(), []

        def listen(event: object, after: int = after, stop: bw.Stop = stop, heard: list[int] = heard) -> None:
            if isinstance(event, BranchEnded):
                heard.append(event.branch)
                if len(heard) == after:
                    stop.set()

        result = ask(SEARCHES[name], stop=stop, observer=listen)
        unjudged = not any(node.value is not None for node in result.tree.nodes)  # then the majority answers
        stated = any(branch.answer is not None for branch in result.paths)
        assert best_so_far(result) or (unjudged and (result.answer is not None) == stated)
        assert len(heard) >= after
        assert result.outcome in (bw.Outcome.CANCELLED, bw.Outcome.COMPLETE, bw.Outcome.NO_ANSWER)
        told = [(n.number, n.parent, n.text) for n in result.tree.nodes]
        assert told == [(n.number, n.parent, n.text) for n in whole.tree.nodes][: len(told)]


# Backends that can do less


@every_search
@pytest.mark.parametrize(
    ("able", "words"),
    [
        (replace(FULL, prefix_reuse=0), "keeps no prefixes"),
        (replace(FULL, token_in=False), "tokenized again"),
        (replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0), "shows no tokens"),
        (replace(FULL, per_branch_cancel=False, keyed=False), "does not draw by key"),
    ],
)
def test_less_able_backends_search_the_same_tree_and_say_what_is_lost(
    name: str, able: bw.Capabilities, words: str
) -> None:
    result, plain = ask(SEARCHES[name], backend=backend(able=able)), ask(SEARCHES[name])
    if "tokenized again" not in words or SEARCHES[name].step != "path":
        assert any(words in note for note in result.degraded)
    if name in ("mcts-puct", "a-star") and not able.logprobs:
        assert result.answer is not None  # they choose by log-probabilities
        return
    assert [(n.parent, n.text, n.value, n.state) for n in result.tree.nodes] == [
        (n.parent, n.text, n.value, n.state) for n in plain.tree.nodes
    ]
    assert result.votes == plain.votes


async def test_a_stop_while_paths_are_judged_is_a_stop_though_tokens_were_spent_before() -> None:
    async def judged(patient: bool) -> bw.Outcome:
        stop = bw.Stop()

        async def verifier(path: bw.Path) -> float:
            if not patient:
                stop.set()
                await asyncio.sleep(60)
            return 1.0

        scripted = ScriptedBackend({"": ["The answer is 1."]})  # five tokens
        strategy, budget = bw.BestOfN(4, value="verifier"), bw.Budget(tokens=7)
        return (await bw.solve("q", scripted, strategy=strategy, budget=budget, verifier=verifier, stop=stop)).outcome

    assert await judged(patient=True) is bw.Outcome.TOKENS_SPENT
    assert await judged(patient=False) is bw.Outcome.CANCELLED
