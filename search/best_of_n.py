"""Best-of-N: draw paths, keep the one with the best score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from branchwise.core.votes import confidence
from branchwise.search.level_search import Growth, Levels, LevelSearch
from branchwise.search.node import Node
from branchwise.search.thoughts import Step
from branchwise.search.values import ValueName
from branchwise.strategies.strategy import Decision


@dataclass(frozen=True, slots=True)
class BestOfN(LevelSearch):
    """Draw paths independently, value each when it has ended, and answer with the best one's (choose=best) or with the
    answer whose paths are worth most in all (choose=weighted). Paths without an answer are not chosen.

    With a step, paths are drawn and valued step by step, so that `over` has something to reduce.
    """

    name: ClassVar[str] = "best-of-n"

    paths: int = 16
    """How many paths to draw."""
    value: ValueName = "logprob"
    step: Step = "path"
    choose: Literal["weighted", "best", "vote"] = "best"

    def first(self, search: Levels) -> Sequence[Growth]:
        return [Growth(search.prompt, self.paths)]

    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        return [Growth(node, 1) for family in families for node in family if not node.ended]

    def conclude(self, samples: Levels) -> Decision:
        # The paths are independent draws, so counting them says how sure an answer is.
        decision = LevelSearch.conclude(self, samples)
        plain = decision.tallies["plain"].votes if decision.tallies else decision.votes
        sure = None if decision.answer is None else confidence(plain, decision.answer)
        return replace(decision, confidence=sure)
