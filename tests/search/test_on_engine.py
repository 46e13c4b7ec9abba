"""Searches on a real engine: no token is computed twice, and speculation does not change the tree."""

from dataclasses import replace
from typing import Any

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.tree import TreeSearch
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.search.values import ValueName
from tests.support.branches import MakeEngine

WARM = bw.Sampling(temperature=0.7, max_tokens=60)
SEARCHES: list[TreeSearch[Any]] = [
    Beam(4, width=2, max_steps=5),
    DVTS(4, width=2, max_steps=5),
    Rebase(4, max_steps=5),
    ParticleFilter(4, max_steps=5),
    MCTS(8, parallel=3, max_steps=5),
    ToTBFS(4, keep=2, max_steps=5),
    ToTDFS(8, width=2, max_steps=4, threshold=0.0),
    BestFirst(8, width=2, max_steps=5),
]
SEARCHES = [replace(search, sampling=WARM, step=6) for search in SEARCHES]
every_search = pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
Tokens = tuple[int, ...]


def prefixes(tokens: Tokens, start: int = 1) -> set[Tokens]:
    return {tokens[:end] for end in range(start, len(tokens) + 1)}


class Recorder:
    """Records the token prefixes an engine receives and those it computes while it samples."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.received: set[Tokens] = set()
        self.continued: set[Tokens] = set()
        extend, score = engine.extend, engine.score

        def recorded_extend(request: ExtendRequest) -> object:
            self.received |= prefixes(request.path.all_token_ids())
            if request.path.generated:
                self.continued.add(request.path.all_token_ids())
            return extend(request)

        async def recorded_score(path: bw.Path, continuations: object) -> object:
            self.received |= prefixes(path.all_token_ids())
            return await score(path, continuations)  # type: ignore[arg-type]

        monkeypatch.setattr(engine, "extend", recorded_extend)
        monkeypatch.setattr(engine, "score", recorded_score)

    def sampled(self, result: bw.Result) -> set[Tokens]:
        """Return the prefixes computed during sampling: up to every sampled token that another one follows."""
        found: set[Tokens] = set()
        for branch in result.paths:
            tokens = branch.path.all_token_ids()
            found |= prefixes(tokens[:-1], len(branch.path.root.token_ids) + branch.prefix_tokens + 1)
        return found


@every_search
@pytest.mark.parametrize("value", ["logprob", "p-true", "rollouts"])
def test_no_token_is_computed_twice(
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    search: TreeSearch[Any],
    value: ValueName,
) -> None:
    engine = make_engine("llama")
    recorder = Recorder(engine, monkeypatch)
    result = bw.solve_sync("What is 6 times 7?", engine, strategy=replace(search, value=value))
    usage, prompt = result.usage, len(result.paths[0].path.root.token_ids)
    assert len(result.tree.nodes) > 8
    assert max(len(result.tree.path(node.number)) for node in result.tree.nodes) > 3
    assert usage.prompt == usage.reused + usage.prefilled
    assert usage.prefilled == len(recorder.received - recorder.sampled(result))
    if value != "p-true":  # the prompt, and the last token of each step that ends with its sample
        assert prompt <= usage.prefilled <= prompt + len(recorder.continued)
    assert usage.discarded == 0


@every_search
@pytest.mark.parametrize("value", ["logprob", "p-true"])
def test_speculation_does_not_change_the_tree(
    make_engine: MakeEngine, search: TreeSearch[Any], value: ValueName
) -> None:
    strategy = replace(search, value=value, sampling=replace(WARM, temperature=0.3))
    plain = bw.solve_sync("What is 6 times 7?", make_engine("llama"), strategy=strategy)
    drafted = bw.solve_sync("What is 6 times 7?", make_engine("llama", Siblings()), strategy=strategy)
    assert drafted.usage.drafters["siblings"].accepted > 0
    assert drafted.usage.accepted > drafted.usage.sampled / 20
    assert drafted.usage.sampled == plain.usage.sampled
    assert [branch.path.key for branch in drafted.paths] == [branch.path.key for branch in plain.paths]
    for ours, theirs in zip(drafted.tree.nodes, plain.tree.nodes, strict=True):
        assert (ours.parent, ours.text, ours.visits, ours.state) == (
            theirs.parent,
            theirs.text,
            theirs.visits,
            theirs.state,
        )
        assert ours.value == pytest.approx(theirs.value)
    assert (drafted.answer, drafted.votes) == (plain.answer, plain.votes)


@every_search
def test_the_same_seed_gives_the_same_tree_on_an_engine(make_engine: MakeEngine, search: TreeSearch) -> None:  # type: ignore[type-arg]
    strategy = replace(search, value="p-true")
    first = bw.solve_sync("What is 6 times 7?", make_engine("llama"), strategy=strategy, seed=4)
    engine = make_engine("llama", max_batch=2)
    bw.solve_sync("Something else", engine, strategy=bw.Greedy(WARM))
    second = bw.solve_sync("What is 6 times 7?", engine, strategy=strategy, seed=4)
    assert [(n.parent, n.text, n.state) for n in first.tree.nodes] == [
        (n.parent, n.text, n.state) for n in second.tree.nodes
    ]
