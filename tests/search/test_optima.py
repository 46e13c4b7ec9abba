"""Searches that expand enough of a small tree find its best leaf, checked against enumeration."""

import random
from typing import NamedTuple

import pytest

from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from tests.support.search_scripts import Script, run, with_costs

SEEDS = range(12)
INNER = ["n0", "n1", "n2"]


class Forest(NamedTuple):
    """A random tree: children by path, and the value of each leaf. Every leaf has a different answer."""

    children: dict[str, list[str]]
    leaves: dict[str, float]

    def below(self, path: str) -> list[float]:
        """Return the values of the leaves at and below a path."""
        return [value for leaf, value in self.leaves.items() if f"{leaf} ".startswith(f"{path} ".lstrip())]

    def best(self, path: str = "") -> float:
        return max(self.below(path))

    @property
    def answer(self) -> str:
        """Return the answer of the best leaf."""
        return max(self.leaves, key=lambda leaf: self.leaves[leaf]).rsplit("=")[-1]


def forest(rng: random.Random, width: int, depth: int = 3, *, ragged: bool = True) -> Forest:
    """Return a tree of `depth` steps; in a ragged one some paths end earlier."""
    tree = Forest({}, {})

    def add_children(path: str, remaining: int) -> None:
        tree.children[path] = []
        for name in INNER[:width]:
            ends = remaining == 1 or (ragged and rng.random() < 0.25)
            step = f"={len(tree.leaves)}" if ends else name
            tree.children[path].append(step)
            child = f"{path} {step}".strip()
            if ends:
                tree.leaves[child] = round(rng.random(), 6)
            else:
                add_children(child, remaining - 1)

    add_children("", depth)
    return tree


def valued(tree: Forest, rng: random.Random, kind: str) -> Script:
    """Return the tree as a script; `kind` is the kind of the values of inner nodes.

    perfect: the value of the best leaf below. bound: an upper bound of it. random: unrelated to the leaves.
    """

    def value(path: str) -> float:
        if path in tree.leaves:
            return tree.leaves[path]
        best = tree.best(path)
        return {"perfect": best, "bound": best + rng.random(), "random": rng.random()}[kind]

    return {path: [(step, value(f"{path} {step}".strip())) for step in steps] for path, steps in tree.children.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [2, 3])
def test_level_searches_follow_perfect_values(seed: int, width: int) -> None:
    rng = random.Random(seed)
    tree = forest(rng, width, ragged=False)
    script = valued(tree, rng, "perfect")
    for strategy in (
        Beam(4 * width, width=width, value="verifier", choose="best"),
        DVTS(2 * width, width=width, value="verifier", choose="best"),
        ToTBFS(4 * width, keep=4, value="verifier", choose="best"),
    ):
        assert run(strategy, script).result.answer == tree.answer, strategy.name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("rule", ["uct", "puct"])
def test_mcts_visits_every_leaf(seed: int, parallel: int, rule: str) -> None:
    rng = random.Random(seed)
    tree = forest(rng, 2 + seed % 2)
    strategy = MCTS(1000, width=2 + seed % 2, rule=rule, parallel=parallel, value="verifier", choose="best")  # type: ignore[arg-type]
    search = run(strategy, valued(tree, rng, "random"))
    assert search.result.answer == tree.answer
    assert sorted(search.order) == sorted(tree.children), "every node is expanded once"
    assert {name for name, node in search.nodes.items() if node.ended} == tree.leaves.keys()
    assert search.recorder.state[0].root_node.exhausted


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_first_without_a_threshold_visits_every_leaf(seed: int) -> None:
    rng = random.Random(seed)
    tree = forest(rng, 2 + seed % 2)
    strategy = ToTDFS(1000, width=2 + seed % 2, threshold=0.0, answers=len(tree.leaves), value="verifier")
    search = run(strategy, valued(tree, rng, "random"))
    assert search.result.answer == tree.answer
    assert sorted(search.order) == sorted(tree.children)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parallel", [1, 3])
def test_best_first_finds_the_best_leaf_by_upper_bounds(seed: int, parallel: int) -> None:
    rng = random.Random(seed)
    tree = forest(rng, 2 + seed % 2)
    script = valued(tree, rng, "bound")
    search = run(BestFirst(1000, width=2 + seed % 2, parallel=parallel, value="verifier"), script)
    assert search.result.answer == tree.answer
    if parallel == 1:  # no node with a value below the best leaf's is expanded
        values = {f"{path} {step}".strip(): value for path, steps in script.items() for step, value, *_ in steps}
        assert all(values[path] >= tree.best() for path in search.order[1:])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a_star_finds_the_cheapest_path(seed: int, parallel: int, weight: float) -> None:
    """With an estimate that is never too high (A*), and without one (Dijkstra)."""
    rng = random.Random(seed)
    shape = forest(rng, 2 + seed % 2)
    costs = {f"{path} {s}".strip(): rng.uniform(0.5, 5) for path, steps in shape.children.items() for s in steps}

    def cost_of(path: str) -> float:
        steps = path.split()
        return sum(costs[" ".join(steps[: at + 1])] for at in range(len(steps)))

    tree = shape._replace(leaves={leaf: -cost_of(leaf) for leaf in shape.leaves})
    script: Script = {
        path: [
            (step, rng.random() * (tree.best(child) + cost_of(child)), costs[child])
            for step in steps
            for child in [f"{path} {step}".strip()]
        ]
        for path, steps in shape.children.items()
    }
    strategy = BestFirst(1000, width=2 + seed % 2, weight=weight, cost="nats", parallel=parallel, value="verifier")
    search = run(strategy, with_costs(script))
    assert search.result.answer == tree.answer
