"""Best-of-N: sample paths and keep the one with the best score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from branchwise.core.votes import confidence
from branchwise.search.levels import Branching, LevelSearch, LevelState, open_nodes
from branchwise.search.node import Node
from branchwise.search.steps import Step
from branchwise.search.values import ValueName
from branchwise.strategies.actions import DEFAULT_PATHS
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class BestOfN(LevelSearch):
    """Sample paths independently, value each at its end, and take the answer of the best path (choose=best) or the
    answer with the largest sum of scores (choose=weighted). Paths without an answer don't count.

    With a step other than `path`, paths are sampled and valued step by step, and `over` reduces the values.
    """

    name: ClassVar[str] = "best-of-n"
    restarts: ClassVar[bool] = False  # N paths are N paths

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    value: ValueName = "logprob"
    step: Step = "path"
    choose: Literal["weighted", "best", "vote"] = "best"

    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        return [Branching(node, 1) for node in open_nodes(families)]

    def conclude(self, state: LevelState) -> Decision:
        # The paths are independent samples, so their plain votes give a confidence.
        decision = LevelSearch.conclude(self, state)
        plain = decision.tallies["plain"].votes if decision.tallies else decision.votes
        leads = None if decision.answer is None else confidence(plain, decision.answer)
        return replace(decision, confidence=leads)
