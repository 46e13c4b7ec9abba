"""Beam search: the best steps of a level go on, each in several ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.search.level_search import Growth, Levels, LevelSearch, open_nodes
from branchwise.search.node import Node


@dataclass(frozen=True, slots=True)
class Beam(LevelSearch):
    """Keep the paths/width best steps of a level, and expand each by `width` (Snell et al. 2024, arXiv 2408.03314).

    Paths that end leave the beam; the search is over when `paths` of them have, or none goes on.
    """

    name: ClassVar[str] = "beam"

    paths: int = 16
    """Steps drawn at a level."""
    width: int = 4
    """Next steps drawn from each path that is kept."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        check_width(self.paths, self.width)

    def first(self, search: Levels) -> Sequence[Growth]:
        return [Growth(search.prompt, self.paths)]

    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        if sum(node.ended for node in search.nodes) >= self.paths:
            return []
        best = sorted(open_nodes(families), key=self.score, reverse=True)
        return [Growth(node, self.width) for node in best[: self.paths // self.width]]


def check_width(paths: int, width: int) -> None:
    """ConfigError unless so many paths can be kept in groups of `width`."""
    require(width >= 1, "width", f"is {width}", "use at least 1")
    fits = paths % width == 0
    require(fits, "width", f"is {width}, which does not divide {paths} paths", "use a divisor of the paths")
