"""Diverse verifier tree search: independent greedy searches side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from branchwise.search.beam import check_width
from branchwise.search.level_search import Growth, Levels, LevelSearch
from branchwise.search.node import Node


@dataclass(frozen=True, slots=True)
class DVTS(LevelSearch):
    """paths/width subtrees; in each, the best of `width` next steps goes on (Beeching, Tunstall, Rush 2024, "Scaling
    test-time compute with open models"). A subtree is done when its best step ends its path."""

    name: ClassVar[str] = "dvts"

    paths: int = 16
    """Steps drawn at a level, in all subtrees."""
    width: int = 4
    """Next steps drawn in each subtree."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        check_width(self.paths, self.width)

    def first(self, search: Levels) -> Sequence[Growth]:
        return [Growth(search.prompt, self.width)] * (self.paths // self.width)

    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        best = [max(family, key=self.score) for family in families if family]
        return [Growth(node, self.width) for node in best if not node.ended]
