"""Monte Carlo tree search over steps."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node
from branchwise.search.state import SearchState
from branchwise.search.tree import TreeSearch
from branchwise.search.values import ValueName
from branchwise.strategies.actions import DEFAULT_PATHS


@dataclass(slots=True)
class MCTSState(SearchState):
    """The state of a search and its number of simulations."""

    simulations: int = 0
    """Simulations started."""


@dataclass(frozen=True, slots=True)
class MCTS(TreeSearch[MCTSState]):
    """Run `paths` simulations: select a leaf, expand it by `width` steps, and back up each child's score to the root.

    UCT: Q + c sqrt(ln N_parent / N) (Kocsis & Szepesvari 2006). PUCT: Q + c P sqrt(N_parent) / (1 + N), where P is a
    step's share of the mean token probabilities of its siblings (Silver et al. 2017). Running simulations count as
    visits with value 0 (virtual loss), so that parallel ones spread. Exhausted subtrees are not selected again.
    """

    name: ClassVar[str] = "mcts"

    paths: int = DEFAULT_PATHS
    """Simulations: leaves to expand."""
    value: ValueName = "rollouts"
    rollouts: int = 1
    width: int = 2
    """Steps a leaf is expanded by."""
    rule: Literal["uct", "puct"] = "uct"
    """Rule that selects a child."""
    exploration: float = math.sqrt(2)
    """Weight c of the exploration term."""
    parallel: int = 4
    """Simulations that run at a time."""

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        require(self.rule in ("uct", "puct"), "rule", f"is {self.rule!r}", "use uct or puct")
        require(self.exploration >= 0, "exploration", f"is {self.exploration}", "use 0 or more")
        require(self.parallel >= 1, "parallel", f"is {self.parallel}", "use at least 1")

    def initial_state(self, root: Path) -> MCTSState:
        return MCTSState(root)

    def advance(self, state: MCTSState) -> None:
        while state.running < self.parallel and state.simulations < self.paths and not state.done:
            leaf = self._select_leaf(state.root_node)
            if leaf is None:
                break
            state.simulations += 1
            if self.expand(state, leaf, self.width) is not None:
                for node in leaf.lineage():
                    node.in_flight += 1
        if not state.running:
            state.done = True

    def on_expanded(self, state: MCTSState, expansion: Expansion) -> None:
        for node in expansion.node.lineage():
            node.in_flight -= 1
        for child in self.surviving(state, expansion.children):
            child.backup(self.score(child))
            child.exhausted = child.ended or child.depth >= self.max_steps
        for node in expansion.node.lineage():
            node.exhausted = all(child.exhausted or not child.visits for child in node.children)
            if not node.exhausted:
                break

    def _select_leaf(self, root: Node) -> Node | None:
        """Return the leaf selected from the root, or None if every leaf is exhausted or being expanded."""
        if root.exhausted or (root.in_flight and not root.children):
            return None
        node = root
        while node.children:
            selectable = [child for child in node.children if self._has_free_leaf(child)]
            if not selectable:
                return None
            parent = node
            node = max(selectable, key=lambda child: self._selection_score(child, parent))
        return node

    def _has_free_leaf(self, node: Node) -> bool:
        """Return True if the subtree of a node has a leaf that can be expanded and is not being expanded."""
        if node.exhausted or not node.visits:
            return False
        return any(map(self._has_free_leaf, node.children)) if node.children else not node.in_flight

    def _selection_score(self, child: Node, parent: Node) -> float:
        """Return the UCT or PUCT score of a child."""
        parent_visits, visits = parent.visits + parent.in_flight, child.visits + child.in_flight
        mean = child.value_sum / visits
        if self.rule == "uct":
            return mean + self.exploration * math.sqrt(math.log(parent_visits) / visits)
        return mean + self.exploration * _prior(child, parent) * math.sqrt(parent_visits) / (1 + visits)


def _prior(child: Node, parent: Node) -> float:
    """Return a step's share of its siblings' mean token probabilities; equal shares if one of them is unknown."""
    probabilities = [_step_probability(sibling, parent) for sibling in parent.children]
    known = [probability for probability in probabilities if probability is not None]
    if len(known) < len(probabilities):
        return 1 / len(probabilities)
    return (_step_probability(child, parent) or 0.0) / (sum(known) or 1.0)


def _step_probability(child: Node, parent: Node) -> float | None:
    """Return the geometric mean of the token probabilities of a step; None if they are unknown."""
    logprobs = child.path.sampled_logprobs()
    own = logprobs[len(parent.path.sampled_logprobs() or ()) :] if logprobs else None
    return math.exp(sum(own) / len(own)) if own else None
