"""Best-first search and A*: the most promising state anywhere in the tree goes on."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node
from branchwise.search.search import Search
from branchwise.search.tree_search import TreeSearch


@dataclass(slots=True)
class Frontier(Search):
    """A search, and the nodes it may take next."""

    frontier: list[Node] = field(default_factory=list)
    begun: int = 0
    taken: int = 0
    """Ended nodes that were the most promising."""


@dataclass(frozen=True, slots=True)
class BestFirst(TreeSearch[Frontier]):
    """Take the node of highest weight * score - cost, and expand it by `width` steps, at most `paths` times.

    Over when an ended node is the most promising, `answers` times. With a cost, and a verifier of one's own that says
    minus what it estimates is still to pay, this is A* (Hart, Nilsson, Raphael 1968); without a cost it is greedy.
    """

    name: ClassVar[str] = "best-first"

    paths: int = 16
    """Most nodes to expand."""
    choose: Literal["weighted", "best", "vote"] = "best"
    width: int = 4
    """Steps a node is expanded by."""
    weight: float = 1.0
    """Of the score against the cost."""
    cost: Literal["none", "steps", "nats"] = "none"
    """What a path has cost: nothing, its steps, or minus the log-probability of its tokens."""
    parallel: int = 1
    """Nodes expanded at a time."""
    answers: int = 1
    """Ended nodes to take until the search is over."""

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        known = ("none", "steps", "nats")
        require(self.cost in known, "cost", f"is {self.cost!r}", f"use one of {', '.join(known)}")
        require(self.parallel >= 1, "parallel", f"is {self.parallel}", "use at least 1")
        require(self.answers >= 1, "answers", f"is {self.answers}", "use at least 1")

    def begin(self, root: Path) -> Frontier:
        search = Frontier(root)
        search.frontier.append(search.prompt)
        return search

    def advance(self, search: Frontier) -> None:
        while search.frontier and search.running < self.parallel and not search.over:
            node = max(search.frontier, key=self.promise)  # the first found of equals
            if node.ended and search.running:
                break  # what is under way promised more
            search.frontier.remove(node)
            if node.ended:
                search.taken += 1
                search.over = search.taken >= self.answers
            elif search.begun < self.paths:
                search.begun += 1
                self.expand(search, node, self.width)
        if not search.running and not search.frontier:
            search.over = True

    def expanded(self, search: Frontier, expansion: Expansion) -> None:
        able = self.able(search, expansion.children)
        search.frontier += [node for node in able if node.ended or node.depth < self.max_steps]
        search.frontier.sort(key=lambda node: node.number)

    def promise(self, node: Node) -> float:
        """How much is to be expected of a node."""
        return self.weight * self.score(node) - self._cost(node)

    def _cost(self, node: Node) -> float:
        if self.cost == "steps":
            return node.depth
        return -sum(node.path.sampled_logprobs() or ()) if self.cost == "nats" else 0.0
