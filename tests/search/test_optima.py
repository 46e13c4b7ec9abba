"""Searches that see enough of a small tree find its best leaf, as looking at every leaf does."""

import random
from typing import NamedTuple

import pytest

from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from tests.support.search_lab import Script, priced, run

SEEDS = range(12)
INNER = ["n0", "n1", "n2"]


class Forest(NamedTuple):
    """A random tree: children by path, and what each leaf is worth. Every leaf has an answer of its own."""

    children: dict[str, list[str]]
    leaves: dict[str, float]

    def below(self, path: str) -> list[float]:
        """What the leaves at and below a path are worth."""
        return [value for leaf, value in self.leaves.items() if f"{leaf} ".startswith(f"{path} ".lstrip())]

    def best(self, path: str = "") -> float:
        return max(self.below(path))

    @property
    def answer(self) -> str:
        """The best leaf's."""
        return max(self.leaves, key=lambda leaf: self.leaves[leaf]).rsplit("=")[-1]


def forest(rng: random.Random, width: int, depth: int = 3, *, ragged: bool = True) -> Forest:
    """A tree of `depth` steps; in a ragged one some paths end before."""
    grown = Forest({}, {})

    def grow(path: str, left: int) -> None:
        grown.children[path] = []
        for name in INNER[:width]:
            ends = left == 1 or (ragged and rng.random() < 0.25)
            step = f"={len(grown.leaves)}" if ends else name
            grown.children[path].append(step)
            child = f"{path} {step}".strip()
            if ends:
                grown.leaves[child] = round(rng.random(), 6)
            else:
                grow(child, left - 1)

    grow("", depth)
    return grown


def valued(grown: Forest, rng: random.Random, kind: str) -> Script:
    """The tree as a script, with inner nodes worth what is best below them, no less than that, or anything."""

    def value(path: str) -> float:
        if path in grown.leaves:
            return grown.leaves[path]
        best = grown.best(path)
        return {"perfect": best, "bound": best + rng.random(), "anything": rng.random()}[kind]

    return {path: [(step, value(f"{path} {step}".strip())) for step in steps] for path, steps in grown.children.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [2, 3])
def test_level_searches_follow_values_that_are_right(seed: int, width: int) -> None:
    rng = random.Random(seed)
    grown = forest(rng, width, ragged=False)
    script = valued(grown, rng, "perfect")
    for strategy in (
        Beam(4 * width, width=width, value="verifier", choose="best"),
        DVTS(2 * width, width=width, value="verifier", choose="best"),
        ToTBFS(4 * width, keep=4, value="verifier", choose="best"),
    ):
        assert run(strategy, script).result.answer == grown.answer, strategy.name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("rule", ["uct", "puct"])
def test_mcts_sees_every_leaf_in_the_end(seed: int, parallel: int, rule: str) -> None:
    rng = random.Random(seed)
    grown = forest(rng, 2 + seed % 2)
    strategy = MCTS(1000, width=2 + seed % 2, rule=rule, parallel=parallel, value="verifier", choose="best")  # type: ignore[arg-type]
    searched = run(strategy, valued(grown, rng, "anything"))
    assert searched.result.answer == grown.answer
    assert sorted(searched.order) == sorted(grown.children), "each node is expanded once"
    assert {name for name, node in searched.nodes.items() if node.ended} == grown.leaves.keys()
    assert searched.watched.state[0].prompt.closed


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_first_without_a_threshold_sees_every_leaf(seed: int) -> None:
    rng = random.Random(seed)
    grown = forest(rng, 2 + seed % 2)
    strategy = ToTDFS(1000, width=2 + seed % 2, threshold=0.0, answers=len(grown.leaves), value="verifier")
    searched = run(strategy, valued(grown, rng, "anything"))
    assert searched.result.answer == grown.answer
    assert sorted(searched.order) == sorted(grown.children)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parallel", [1, 3])
def test_best_first_under_values_that_are_no_less_than_what_is_below(seed: int, parallel: int) -> None:
    rng = random.Random(seed)
    grown = forest(rng, 2 + seed % 2)
    script = valued(grown, rng, "bound")
    searched = run(BestFirst(1000, width=2 + seed % 2, parallel=parallel, value="verifier"), script)
    assert searched.result.answer == grown.answer
    if parallel == 1:  # nothing is expanded that is worth less than the best leaf
        worth = {f"{path} {step}".strip(): value for path, steps in script.items() for step, value, *_ in steps}
        assert all(worth[path] >= grown.best() for path in searched.order[1:])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a_star_finds_the_cheapest_path(seed: int, parallel: int, weight: float) -> None:
    """With an estimate that is never too high, and with none (Dijkstra)."""
    rng = random.Random(seed)
    shape = forest(rng, 2 + seed % 2)
    prices = {f"{path} {s}".strip(): rng.uniform(0.5, 5) for path, steps in shape.children.items() for s in steps}

    def paid(path: str) -> float:
        steps = path.split()
        return sum(prices[" ".join(steps[: at + 1])] for at in range(len(steps)))

    grown = shape._replace(leaves={leaf: -paid(leaf) for leaf in shape.leaves})
    script: Script = {
        path: [
            (step, rng.random() * (grown.best(child) + paid(child)), prices[child])
            for step in steps
            for child in [f"{path} {step}".strip()]
        ]
        for path, steps in shape.children.items()
    }
    strategy = BestFirst(1000, width=2 + seed % 2, weight=weight, cost="nats", parallel=parallel, value="verifier")
    searched = run(strategy, priced(script))
    assert searched.result.answer == grown.answer
