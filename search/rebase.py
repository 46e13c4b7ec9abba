"""REBASE: divide the children of a level among its nodes by their scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.search.levels import Branching, LevelSearch, LevelState, open_nodes
from branchwise.search.node import Node
from branchwise.strategies.actions import DEFAULT_PATHS


@dataclass(frozen=True, slots=True)
class Rebase(LevelSearch):
    """Divide `paths` children among a level's steps by softmax(score / temperature) (Wu et al. 2024, arXiv 2408.00724).

    Every path that ends reduces the number of children by one.
    """

    name: ClassVar[str] = "rebase"

    paths: int = DEFAULT_PATHS
    """Children divided among the steps of a level, minus the paths that have ended."""
    temperature: float = 0.2
    """Temperature of the softmax; lower values favor the best steps."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(self.temperature > 0, "temperature", f"is {self.temperature}", "use a number above 0")

    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        budget = self.paths - sum(node.ended for node in state.nodes)
        nodes = open_nodes(families)
        if budget <= 0 or not nodes:
            return []
        highest = max(map(self.score, nodes))
        weights = [math.exp((self.score(node) - highest) / self.temperature) for node in nodes]
        counts = [round(budget * weight / sum(weights)) for weight in weights]
        if not any(counts):  # every share rounds to 0: the first nodes get one child each
            counts = [1 if place < budget else 0 for place in range(len(nodes))]
        return [Branching(node, count) for node, count in zip(nodes, counts, strict=True) if count]
