"""Diverse verifier tree search: beams of one path in independent subtrees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from branchwise.search.beam import Beam
from branchwise.search.levels import Branching, LevelState
from branchwise.search.node import Node


@dataclass(frozen=True, slots=True)
class DVTS(Beam):
    """Search paths/width independent subtrees, and in each expand the best of `width` next steps (Beeching, Tunstall,
    Rush 2024, "Scaling test-time compute with open models"). A subtree is done when its best step ends the path."""

    name: ClassVar[str] = "dvts"

    def first_level(self, state: LevelState) -> Sequence[Branching]:
        return [Branching(state.root_node, self.width)] * (self.paths // self.width)

    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        best = [node for family in families for node in self.best(family, 1)]
        return [Branching(node, self.width) for node in best if not node.ended]
