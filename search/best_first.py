"""Best-first search and A*: expand the best node anywhere in the tree."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node
from branchwise.search.state import SearchState
from branchwise.search.tree import TreeSearch
from branchwise.strategies.actions import DEFAULT_PATHS


@dataclass(slots=True)
class FrontierState(SearchState):
    """The state of a search and the nodes it may expand next."""

    frontier: list[Node] = field(default_factory=list)
    expansions: int = 0
    """Expansions started."""
    accepted: int = 0
    """Ended nodes with an answer that were the best of the frontier."""


@dataclass(frozen=True, slots=True)
class BestFirst(TreeSearch[FrontierState]):
    """Expand the node with the highest weight * score - cost by `width` steps, at most `paths` times.

    The search is done when an ended node with an answer is the best one, `answers` times. With a cost, and a verifier
    that returns minus its estimate of the remaining cost, this is A* (Hart, Nilsson, Raphael 1968). Without a cost it
    is greedy.
    """

    name: ClassVar[str] = "best-first"

    paths: int = DEFAULT_PATHS
    """Maximum number of nodes to expand."""
    choose: Literal["weighted", "best", "vote"] = "best"
    width: int = 4
    """Steps a node is expanded by."""
    weight: float = 1.0
    """Weight of the score against the cost."""
    cost: Literal["none", "steps", "nats"] = "none"
    """Cost of a path: none, its number of steps, or minus the log-probability of its tokens."""
    parallel: int = 1
    """Nodes expanded at a time."""
    answers: int = 1
    """Ended nodes with an answer to accept before the search is done."""

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        known = ("none", "steps", "nats")
        require(self.cost in known, "cost", f"is {self.cost!r}", f"use one of {', '.join(known)}")
        require(self.parallel >= 1, "parallel", f"is {self.parallel}", "use at least 1")
        require(self.answers >= 1, "answers", f"is {self.answers}", "use at least 1")

    def initial_state(self, root: Path) -> FrontierState:
        state = FrontierState(root)
        state.frontier.append(state.root_node)
        return state

    def advance(self, state: FrontierState) -> None:
        while state.frontier and state.running < self.parallel and not state.done:
            node = max(state.frontier, key=self.rank)  # the earliest node among equals
            if node.ended and state.running:
                break  # a running expansion ranked higher, and its children may as well
            state.frontier.remove(node)
            if node.ended:
                state.accepted += node.answer is not None
                state.done = state.accepted >= self.answers
            elif state.expansions < self.paths:
                state.expansions += 1
                self.expand(state, node, self.width)
        if not state.running and not state.frontier:
            state.done = True

    def on_expanded(self, state: FrontierState, expansion: Expansion) -> None:
        children = self.surviving(state, expansion.children)
        state.frontier += [node for node in children if node.ended or node.depth < self.max_steps]
        state.frontier.sort(key=lambda node: node.number)

    def rank(self, node: Node) -> float:
        return self.weight * self.score(node) - self._path_cost(node)

    def _path_cost(self, node: Node) -> float:
        if self.cost == "steps":
            return node.depth
        return -sum(node.path.sampled_logprobs() or ()) if self.cost == "nats" else 0.0
