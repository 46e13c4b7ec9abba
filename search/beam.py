"""Beam search: expand the best steps of a level. DVTS (dvts.py) runs the same selection in independent subtrees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.search.levels import Branching, LevelSearch, LevelState, open_nodes
from branchwise.search.node import Node
from branchwise.strategies.actions import DEFAULT_PATHS


@dataclass(frozen=True, slots=True)
class Beam(LevelSearch):
    """Keep the paths/width best steps of a level, and expand each by `width` (Snell et al. 2024, arXiv 2408.03314).

    Paths that end leave the beam. The search is done when `paths` of them have ended, or none continues.
    """

    name: ClassVar[str] = "beam"

    paths: int = DEFAULT_PATHS
    """Steps sampled at a level; in DVTS, over all subtrees."""
    width: int = 4
    """Next steps sampled from each path that is kept."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        divides = self.paths % self.width == 0
        problem = f"is {self.width}, which does not divide {self.paths} paths"
        require(divides, "width", problem, "use a divisor of the paths")

    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        if sum(node.ended for node in state.nodes) >= self.paths:
            return []
        return [Branching(node, self.width) for node in self.best(open_nodes(families), self.paths // self.width)]

    def best(self, nodes: Sequence[Node], count: int) -> Sequence[Node]:
        """Return the `count` nodes with the highest scores, earlier nodes first among equal scores."""
        return sorted(nodes, key=self.score, reverse=True)[:count]
