"""REBASE: steps go on in as many ways as their values earn them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.search.level_search import Growth, Levels, LevelSearch, open_nodes
from branchwise.search.node import Node


@dataclass(frozen=True, slots=True)
class Rebase(LevelSearch):
    """Share `paths` children among a level's steps by softmax(score / temperature) (Wu et al. 2024, arXiv 2408.00724).

    Every path that ends takes one from what is shared.
    """

    name: ClassVar[str] = "rebase"

    paths: int = 16
    """Children shared among the steps of a level, less those paths that have ended."""
    temperature: float = 0.2
    """Of the softmax; lower favours the best."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(self.temperature > 0, "temperature", f"is {self.temperature}", "use a number above 0")

    def first(self, search: Levels) -> Sequence[Growth]:
        return [Growth(search.prompt, self.paths)]

    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        budget = self.paths - sum(node.ended for node in search.nodes)
        able = open_nodes(families)
        if budget <= 0 or not able:
            return []
        most = max(map(self.score, able))
        weights = [math.exp((self.score(node) - most) / self.temperature) for node in able]
        counts = [round(budget * weight / sum(weights)) for weight in weights]
        if not any(counts):  # all are so alike that none earns a child: the first ones do
            counts = [1 if place < budget else 0 for place in range(len(able))]
        return [Growth(node, count) for node, count in zip(able, counts, strict=True) if count]
