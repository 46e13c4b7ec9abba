"""Searches against treequest's of the same name, on trees without end whose scores are a hash of the path."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from treequest import StandardMCTS, TreeOfThoughtsBFSAlgo
from treequest.algos.base import Algorithm
from treequest.algos.best_first_search import BestFirstSearchAlgo
from treequest.algos.tree import Node

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.mcts import MCTS
from branchwise.search.tree_of_thoughts import ToTBFS
from branchwise.strategies.strategy import AnyStrategy
from tests.support.search_lab import Searched, Watched, named

Scores = Callable[[str], float]


def by_path(path: str) -> float:
    """A number from 0 to 1 that looks random."""
    return zlib.crc32(path.encode()) / (1 << 32)


def by_parent(path: str) -> float:
    """The same for all children of a node."""
    return by_path(path.rpartition(" ")[0])


def ours(strategy: AnyStrategy, scores: Scores) -> Searched:
    """Our search; the k-th step after any path is called nk."""
    watched = Watched(strategy)

    async def verifier(path: bw.Path) -> float:
        return scores(named(path.answer_text))

    backend = ScriptedBackend(lambda path, before: f"n{before}\n")
    return Searched(bw.solve_sync("q", backend, strategy=watched, verifier=verifier), watched)


class Theirs:
    """Their search, step by step, and the order in which nodes were expanded."""

    def __init__(self, algorithm: Algorithm, scores: Scores) -> None:  # type: ignore[type-arg]
        self.algorithm, self.scores = algorithm, scores
        self.state = algorithm.init_tree()
        self.order: list[str] = []

    def child(self, parent: Node) -> tuple[str, float]:  # type: ignore[type-arg]
        path = f"{parent.state or ''} n{len(parent.children)}".strip()
        return path, self.scores(path)

    def step(self) -> None:
        """One new node."""
        self.state, trial = self.algorithm.ask(self.state, ["draw"])
        parent = self.state.tree.get_node(trial.node_to_expand)
        if not parent.children:
            self.order.append(parent.state or "")
        self.state = self.algorithm.tell(self.state, trial.trial_id, self.child(parent))


@pytest.mark.parametrize("exploration", [0.0, 0.3, 2**0.5])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_mcts_by_uct(width: int, exploration: float) -> None:
    """Theirs multiplies the exploration by a softmax of the siblings' scores, where ours has none: where siblings'
    scores are equal that is 1 / width, so c is `width` times as large there. Theirs ends no path, nor do these trees.
    """
    strategy = MCTS(40, width=width, exploration=exploration, parallel=1, value="verifier", max_steps=1000)
    searched = ours(strategy, by_parent)
    theirs = Theirs(StandardMCTS(samples_per_action=width, exploration_weight=exploration * width), by_parent)
    for _ in range(40 * width):
        theirs.step()
    assert searched.order == theirs.order
    assert len(theirs.order) == 40
    for node in theirs.state.tree.get_nodes():
        mine = searched.nodes[node.state or ""]
        assert mine.visits == theirs.state.visit_counts[node.expand_idx]
        assert mine.total == pytest.approx(theirs.state.value_sums[node.expand_idx])


@pytest.mark.parametrize("kind", ["tot-bfs", "beam"])
@pytest.mark.parametrize(("keep", "width"), [(1, 1), (2, 3), (3, 3), (2, 5)])
def test_breadth_first(kind: str, keep: int, width: int) -> None:
    """Theirs draws one state at first, ours as many as on every other level: theirs is given ours. Without paths that
    end, a beam search is the same."""
    paths = keep * width
    strategy: AnyStrategy = ToTBFS(paths, keep=keep) if kind == "tot-bfs" else Beam(paths, width=width)
    searched = ours(replace(strategy, value="verifier", max_steps=6), by_path)  # type: ignore[type-var]
    theirs = Theirs(TreeOfThoughtsBFSAlgo(breadth_limit=keep, size_limit=width), by_path)
    root = theirs.state.tree.root
    for _ in range(paths):
        theirs.state.tree.add_node(theirs.child(root), root)
    for _ in range(5 * paths):
        theirs.step()
    assert searched.order == ["", *theirs.order]
    assert len(theirs.order) == 5 * keep


@pytest.mark.parametrize("width", [1, 2, 4])
def test_best_first(width: int) -> None:
    searched = ours(BestFirst(40, width=width, value="verifier", max_steps=1000), by_path)
    theirs = Theirs(BestFirstSearchAlgo(num_samples=width), by_path)
    for _ in range(40 * width):
        theirs.step()
    assert searched.order == theirs.order
    assert len(theirs.order) == 40
