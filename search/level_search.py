"""The base of searches that go level by level: all steps of one depth, then a choice among them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node
from branchwise.search.search import Search
from branchwise.search.tree_search import TreeSearch


class Growth(NamedTuple):
    """A node that is to be expanded, and by how many children."""

    node: Node
    children: int


@dataclass(slots=True)
class Levels(Search):
    """A search, and where it stands."""

    depth: int = 0
    level: list[Expansion] = field(default_factory=list)
    """What was expanded last, in the order in which that was asked for."""


@dataclass(frozen=True, slots=True)
class LevelSearch(TreeSearch[Levels]):
    """Expands, waits for every child's value, chooses, and expands again."""

    def begin(self, root: Path) -> Levels:
        return Levels(root)

    @abstractmethod
    def first(self, search: Levels) -> Sequence[Growth]:
        """What to expand at first."""

    @abstractmethod
    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        """What to expand after a level; `families` are the children of each expansion that are still in the search."""

    def advance(self, search: Levels) -> None:
        if search.running:
            return
        families = [self.able(search, expansion.children) for expansion in search.level]
        if search.depth == 0:
            chosen = self.first(search)
        elif search.spent or search.depth >= self.max_steps:
            chosen = []
        else:
            chosen = self.select(search, families)
            kept = {growth.node for growth in chosen}
            for node in open_nodes(families):
                node.pruned = node not in kept
        search.depth += 1
        started = [self.expand(search, node, children) for node, children in chosen]
        search.level = [expansion for expansion in started if expansion is not None]
        search.over = not search.level


def open_nodes(families: Sequence[Sequence[Node]]) -> list[Node]:
    """The nodes of all families that can be grown on, in the order in which they were found."""
    return [node for family in families for node in family if not node.ended]
