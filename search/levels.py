"""Level search: the base of searches that expand all nodes of one depth, then choose among their children."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node
from branchwise.search.state import SearchState
from branchwise.search.tree import TreeSearch


class Branching(NamedTuple):
    """A node to expand and the number of its children."""

    node: Node
    children: int


@dataclass(slots=True)
class LevelState(SearchState):
    """The state of a search and its current level."""

    depth: int = 0
    level: list[Expansion] = field(default_factory=list)
    """The expansions of the current level, in the order of the requests."""


@dataclass(frozen=True, slots=True)
class LevelSearch(TreeSearch[LevelState]):
    """A search that expands a level, waits until every child is valued, and chooses the nodes of the next level."""

    def initial_state(self, root: Path) -> LevelState:
        return LevelState(root)

    def first_level(self, state: LevelState) -> Sequence[Branching]:
        """Return the first nodes to expand: the prompt, by `paths` children."""
        return [Branching(state.root_node, self.paths)]

    @abstractmethod
    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        """Return the nodes to expand next; `families` are the surviving children of each expansion of the level."""

    def advance(self, state: LevelState) -> None:
        if state.running:
            return
        families = [self.surviving(state, expansion.children) for expansion in state.level]
        if state.depth == 0:
            chosen = self.first_level(state)
        elif state.budget_spent or state.depth >= self.max_steps:
            chosen = []
        else:
            chosen = self.next_level(state, families)
            kept = {branching.node for branching in chosen}
            for node in open_nodes(families):
                node.pruned = node not in kept
        state.depth += 1
        started = [self.expand(state, node, children) for node, children in chosen]
        state.level = [expansion for expansion in started if expansion is not None]
        state.done = not state.level


def open_nodes(families: Sequence[Sequence[Node]]) -> list[Node]:
    """Return the nodes of all families that have not ended, in the order in which they were added."""
    return [node for family in families for node in family if not node.ended]
