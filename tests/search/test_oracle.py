"""Searches against those of treequest, on infinite trees whose scores are hashes of the path."""

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
from tests.support.search_scripts import RecordingStrategy, SearchRun, name_of

Scores = Callable[[str], float]


def by_path(path: str) -> float:
    """Return a pseudo-random number from 0 to 1."""
    return zlib.crc32(path.encode()) / (1 << 32)


def by_parent(path: str) -> float:
    """Return the same pseudo-random number for all children of a node."""
    return by_path(path.rpartition(" ")[0])


def run_search(strategy: AnyStrategy, scores: Scores) -> SearchRun:
    """Run a search of branchwise; the k-th step after every path is called nk."""
    recorder = RecordingStrategy(strategy)

    async def verifier(path: bw.Path) -> float:
        return scores(name_of(path.answer_text))

    backend = ScriptedBackend(lambda path, before: f"n{before}\n")
    return SearchRun(bw.solve_sync("q", backend, strategy=recorder, verifier=verifier), recorder)


class TreeQuest:
    """A search of treequest and the order in which it expands nodes."""

    def __init__(self, algorithm: Algorithm, scores: Scores) -> None:  # type: ignore[type-arg]
        self.algorithm, self.scores = algorithm, scores
        self.state = algorithm.init_tree()
        self.order: list[str] = []

    def child(self, parent: Node) -> tuple[str, float]:  # type: ignore[type-arg]
        path = f"{parent.state or ''} n{len(parent.children)}".strip()
        return path, self.scores(path)

    def step(self) -> None:
        """Add one node."""
        self.state, trial = self.algorithm.ask(self.state, ["sample"])
        parent = self.state.tree.get_node(trial.node_to_expand)
        if not parent.children:
            self.order.append(parent.state or "")
        self.state = self.algorithm.tell(self.state, trial.trial_id, self.child(parent))


@pytest.mark.parametrize("exploration", [0.0, 0.3, 2**0.5])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_mcts_by_uct(width: int, exploration: float) -> None:
    """treequest multiplies the exploration term by a softmax of the siblings' scores, and branchwise does not.

    For equal scores the softmax is 1 / width, so its c is `width` times as large here. Neither has paths that end.
    """
    strategy = MCTS(40, width=width, exploration=exploration, parallel=1, value="verifier", max_steps=1000)
    search = run_search(strategy, by_parent)
    reference = TreeQuest(StandardMCTS(samples_per_action=width, exploration_weight=exploration * width), by_parent)
    for _ in range(40 * width):
        reference.step()
    assert search.order == reference.order
    assert len(reference.order) == 40
    for node in reference.state.tree.get_nodes():
        ours = search.nodes[node.state or ""]
        assert ours.visits == reference.state.visit_counts[node.expand_idx]
        assert ours.value_sum == pytest.approx(reference.state.value_sums[node.expand_idx])


@pytest.mark.parametrize("kind", ["tot-bfs", "beam"])
@pytest.mark.parametrize(("keep", "width"), [(1, 1), (2, 3), (3, 3), (2, 5)])
def test_breadth_first(kind: str, keep: int, width: int) -> None:
    """treequest starts with one state and branchwise with a full level, so treequest is given that level.

    Without paths that end, a beam search expands the same nodes.
    """
    paths = keep * width
    strategy: AnyStrategy = ToTBFS(paths, keep=keep) if kind == "tot-bfs" else Beam(paths, width=width)
    search = run_search(replace(strategy, value="verifier", max_steps=6), by_path)  # type: ignore[type-var]
    reference = TreeQuest(TreeOfThoughtsBFSAlgo(breadth_limit=keep, size_limit=width), by_path)
    root = reference.state.tree.root
    for _ in range(paths):
        reference.state.tree.add_node(reference.child(root), root)
    for _ in range(5 * paths):
        reference.step()
    assert search.order == ["", *reference.order]
    assert len(reference.order) == 5 * keep


@pytest.mark.parametrize("width", [1, 2, 4])
def test_best_first(width: int) -> None:
    search = run_search(BestFirst(40, width=width, value="verifier", max_steps=1000), by_path)
    reference = TreeQuest(BestFirstSearchAlgo(num_samples=width), by_path)
    for _ in range(40 * width):
        reference.step()
    assert search.order == reference.order
    assert len(reference.order) == 40
