"""Tree of thoughts: value states, and search them breadth first or depth first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.levels import Branching, LevelSearch, LevelState, open_nodes
from branchwise.search.node import Node
from branchwise.search.state import SearchState
from branchwise.search.tree import TreeSearch
from branchwise.search.values import ValueName
from branchwise.strategies.actions import DEFAULT_PATHS


@dataclass(frozen=True, slots=True)
class ToTBFS(LevelSearch):
    """Search breadth first: sample `paths` thoughts a level, and expand the `keep` best states (Yao et al. 2023,
    arXiv 2305.10601, algorithm 1). A path that has ended keeps its place among them."""

    name: ClassVar[str] = "tot-bfs"

    paths: int = DEFAULT_PATHS
    """Thoughts sampled at a level."""
    value: ValueName = "rating"
    keep: int = 4
    """States kept at each level (b)."""
    threshold: float = 0.0
    """States with a score below this are pruned."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(1 <= self.keep <= self.paths, "keep", f"is {self.keep}", f"use 1 to {self.paths}, the paths")

    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        ended = self.surviving(state, [node for node in state.nodes if node.ended])
        good = [node for node in (*ended, *open_nodes(families)) if self.reaches(state, node, self.threshold)]
        best = sorted(good, key=self.score, reverse=True)[: self.keep]
        return [Branching(node, max(1, self.paths // self.keep)) for node in best if not node.ended]


@dataclass(slots=True)
class StackState(SearchState):
    """The state of a search and its unexpanded states."""

    stack: list[Node] = field(default_factory=list)
    """Nodes to expand, the next one last."""
    expansions: int = 0
    """Expansions started."""


@dataclass(frozen=True, slots=True)
class ToTDFS(TreeSearch[StackState]):
    """Search depth first: expand the best thought, go back to the next best one after a pruned state, and stop when
    `answers` paths have ended (Yao et al. 2023, arXiv 2305.10601, algorithm 2). At most `paths` states are expanded."""

    name: ClassVar[str] = "tot-dfs"

    paths: int = DEFAULT_PATHS
    """Maximum number of states to expand."""
    value: ValueName = "rating"
    choose: Literal["weighted", "best", "vote"] = "best"
    width: int = 4
    """Thoughts sampled from each state."""
    threshold: float = 0.3
    """States with a score below this are pruned."""
    answers: int = 1
    """Ended paths to find, each with an answer and a score of at least the threshold."""

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        require(self.answers >= 1, "answers", f"is {self.answers}", "use at least 1")

    def initial_state(self, root: Path) -> StackState:
        state = StackState(root)
        state.stack.append(state.root_node)
        return state

    def advance(self, state: StackState) -> None:
        if state.running:
            return
        found = [node for node in state.nodes if node.answer is not None and self.reaches(state, node, self.threshold)]
        state.done = len(found) >= self.answers or not state.stack or state.expansions >= self.paths
        if not state.done:
            state.expansions += 1
            self.expand(state, state.stack.pop(), self.width)

    def on_expanded(self, state: StackState, expansion: Expansion) -> None:
        children = [node for node in self.surviving(state, expansion.children) if not node.ended]
        good = [node for node in children if self.reaches(state, node, self.threshold) and node.depth < self.max_steps]
        for node in children:
            node.pruned = node not in good
        good.reverse()  # the stack is popped from the end, so the first of equal scores must come last
        state.stack += sorted(good, key=self.score)
