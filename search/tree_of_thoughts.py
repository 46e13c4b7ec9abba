"""Tree of thoughts: states are valued, and looked through breadth first or depth first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.level_search import Growth, Levels, LevelSearch
from branchwise.search.node import Node
from branchwise.search.search import Search
from branchwise.search.tree_search import TreeSearch
from branchwise.search.values import ValueName


@dataclass(frozen=True, slots=True)
class ToTBFS(LevelSearch):
    """Breadth first: of each level's thoughts the `keep` best go on, `paths` thoughts a level (Yao et al. 2023,
    arXiv 2305.10601, algorithm 1). A path that ended keeps its place among them."""

    name: ClassVar[str] = "tot-bfs"

    paths: int = 16
    """Thoughts drawn at a level."""
    value: ValueName = "rating"
    keep: int = 4
    """States that are kept of a level (b)."""
    threshold: float = 0.0
    """States valued below this are given up."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(1 <= self.keep <= self.paths, "keep", f"is {self.keep}", f"use 1 to {self.paths}, the paths")

    def first(self, search: Levels) -> Sequence[Growth]:
        return [Growth(search.prompt, self.paths)]

    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        ended = self.able(search, [node for node in search.nodes if node.ended])
        fresh = [node for family in families for node in family if not node.ended]
        able = [node for node in (*ended, *fresh) if self.meets(search, node, self.threshold)]
        best = sorted(able, key=self.score, reverse=True)[: self.keep]
        return [Growth(node, max(1, self.paths // self.keep)) for node in best if not node.ended]


@dataclass(slots=True)
class Stack(Search):
    """A search, and the states it has not looked into, the next one last."""

    stack: list[Node] = field(default_factory=list)
    begun: int = 0


@dataclass(frozen=True, slots=True)
class ToTDFS(TreeSearch[Stack]):
    """Depth first: the best thought first, back to the next one where a state is given up, until `answers` paths have
    ended (Yao et al. 2023, arXiv 2305.10601, algorithm 2). At most `paths` states are expanded."""

    name: ClassVar[str] = "tot-dfs"

    paths: int = 16
    """Most states to expand."""
    value: ValueName = "rating"
    choose: Literal["weighted", "best", "vote"] = "best"
    width: int = 4
    """Thoughts drawn of each state."""
    threshold: float = 0.3
    """States valued below this are given up."""
    answers: int = 1
    """Ended paths, each with an answer worth at least the threshold, until the search is over."""

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        require(self.answers >= 1, "answers", f"is {self.answers}", "use at least 1")

    def begin(self, root: Path) -> Stack:
        search = Stack(root)
        search.stack.append(search.prompt)
        return search

    def advance(self, search: Stack) -> None:
        if search.running:
            return
        found = sum(node.answer is not None and self.meets(search, node, self.threshold) for node in search.nodes)
        search.over = found >= self.answers or not search.stack or search.begun >= self.paths
        if not search.over:
            search.begun += 1
            self.expand(search, search.stack.pop(), self.width)

    def expanded(self, search: Stack, expansion: Expansion) -> None:
        able = [node for node in self.able(search, expansion.children) if not node.ended]
        good = [node for node in able if self.meets(search, node, self.threshold) and node.depth < self.max_steps]
        for node in able:
            node.pruned = node not in good
        good.reverse()  # of equals, the first is looked into first
        search.stack += sorted(good, key=self.score)
