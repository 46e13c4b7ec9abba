"""Draft budget: how many nodes drafters may propose, and which of them a step verifies.

A step over B branches samples B tokens and one more for every accepted draft; each draft makes the step a little
longer. So drafts are taken in order of expected tokens for as long as the expected tokens per second rise. The
acceptance rates are learned from earlier drafts, the costs come from a table measured once for a model and a machine.
No clock is read while deciding: the same tokens give the same drafts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from branchwise.backends.engine.speculation.acceptance import AcceptanceRates
from branchwise.backends.engine.speculation.cost_model import CostModel
from branchwise.backends.engine.speculation.draft import Draft

_MAX_NODES = 32  # of a branch
_MAX_ROWS = 128  # of a step
_MAX_CHAIN = 8  # tokens
_MIN_GAIN = 1.15  # required tokens per second relative to no drafts: proposing and verifying takes unmeasured time
_CROWD_GAIN, _CROWD = 0.35, 32  # required on top of it for this many paths: see `_required_gain`
_PATIENCE, _MAX_PAUSE = 8, 256  # steps


def _required_gain(paths: int) -> float:
    """Return the tokens per second, relative to no drafts, that drafts must promise.

    Branches whose drafts are accepted finish before the others, and the last branch ends a batch. Among many paths, a
    gain for some of them therefore saves only rows of the last steps.
    """
    return _MIN_GAIN + _CROWD_GAIN * min(1.0, paths / _CROWD)


class DraftBudget(ABC):
    """Decides how much is drafted."""

    @abstractmethod
    def nodes(self, groups: int) -> int:
        """Return the most nodes to propose for each of `groups` groups of branches."""

    @abstractmethod
    def chain_length(self, drafter: str, seconds: Callable[[int], float], groups: int) -> int:
        """Return the most tokens to propose in a chain; each costs the drafter `seconds(groups)`."""

    @abstractmethod
    def select(self, drafts: Sequence[Draft], branches: Sequence[int]) -> list[Draft]:
        """Return the part of each draft to verify; `branches` [drafts] counts the branches that share it."""

    @abstractmethod
    def record(self, draft: Draft, accepted: Sequence[int]) -> None:
        """Record which nodes of a verified draft were accepted, in order."""


@dataclass(slots=True)
class FixedBudget(DraftBudget):
    """The same number of nodes for every group and step."""

    count: int

    def nodes(self, groups: int) -> int:
        return self.count

    def chain_length(self, drafter: str, seconds: Callable[[int], float], groups: int) -> int:
        return self.count

    def select(self, drafts: Sequence[Draft], branches: Sequence[int]) -> list[Draft]:
        return list(drafts)

    def record(self, draft: Draft, accepted: Sequence[int]) -> None:
        return


@dataclass
class AdaptiveBudget(DraftBudget):
    """The nodes that raise the expected tokens per second; pauses drafting while no node does."""

    measure: Callable[[], CostModel]
    """Called once, when the first drafts are selected."""
    rates: AcceptanceRates = field(default_factory=AcceptanceRates)
    _useless_steps: int = 0  # in a row, in which no draft was worth its cost
    _pause: int = 0  # steps left without drafts
    _paused_groups: int = 0  # the number of groups when the last pause began
    _next_pause: int = _PATIENCE  # steps; doubles until drafts pay again

    @cached_property
    def costs(self) -> CostModel:
        return self.measure()

    def nodes(self, groups: int) -> int:
        """Return a group's part of the rows, or 0 during a pause. A pause ends when half of its groups are left."""
        if 2 * groups <= self._paused_groups:
            self._pause = self._paused_groups = 0
        if self._pause:
            self._pause -= 1
            return 0
        return min(_MAX_NODES, max(0, _MAX_ROWS // max(1, groups) - 1))

    def chain_length(self, drafter: str, seconds: Callable[[int], float], groups: int) -> int:
        """Return the length with the most tokens per second at the drafter's acceptance rate.

        Expected tokens are those of 2211.17192, section 3.2, with measured costs.
        """
        per_token = seconds(groups)
        if not per_token:
            return _MAX_NODES
        rate = self.rates.of_drafter(drafter)
        best, length = self.costs.rate(groups, groups, groups), 0
        expected = 1.0
        for tokens in range(1, _MAX_CHAIN + 1):
            expected += rate**tokens
            step = self.costs.at(groups, groups * (1 + tokens)) + per_token * tokens
            speed = groups * expected / (step + self.costs.seconds_per_sample * groups * expected)
            if speed > best:
                best, length = speed, tokens
        return length

    def select(self, drafts: Sequence[Draft], branches: Sequence[int]) -> list[Draft]:
        if not any(drafts):
            return list(drafts)
        worth: list[tuple[float, int, int]] = []  # (expected tokens, group, node)
        for group, (draft, count) in enumerate(zip(drafts, branches, strict=True)):
            probabilities = self.rates.probabilities(draft)
            worth.extend((count * probability, group, node) for node, probability in enumerate(probabilities))
        worth.sort(key=lambda one: (-one[0], one[1], one[2]))
        taken = self._count_worth([tokens for tokens, _, _ in worth], len(drafts), sum(branches))
        self._pause_if_useless(len(drafts), taken)
        chosen: list[set[int]] = [set() for _ in drafts]
        for _, group, node in worth[:taken]:
            chosen[group].add(node)
        return [
            draft.subset(nodes) if len(nodes) < len(draft) else draft
            for draft, nodes in zip(drafts, chosen, strict=True)
        ]

    def record(self, draft: Draft, accepted: Sequence[int]) -> None:
        self.rates.record(draft, accepted)

    def _count_worth(self, tokens: Sequence[float], paths: int, branches: int) -> int:
        """Return how many nodes, by expected tokens in descending order, give the most tokens per second."""
        expected = float(branches)
        best, taken = self.costs.rate(expected, paths, paths) * _required_gain(paths), 0
        for number, more in enumerate(tokens, start=1):
            expected += more
            rate = self.costs.rate(expected, paths, paths + number)
            if rate > best:
                best, taken = rate, number
        return taken

    def _pause_if_useless(self, groups: int, taken: int) -> None:
        """Pause proposing, which takes time too, after several steps in which no draft was taken."""
        if taken:
            self._useless_steps, self._next_pause = 0, _PATIENCE
            return
        self._useless_steps += 1
        if self._useless_steps == _PATIENCE:
            self._useless_steps = 0
            self._pause = self._next_pause
            self._paused_groups = groups
            self._next_pause = min(2 * self._next_pause, _MAX_PAUSE)
