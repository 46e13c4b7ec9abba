"""The gate: which of the proposed tokens are worth computing.

A step over B branches draws B tokens, and one more for every draft the target agrees with; each draft
makes the step a little longer. So drafts are taken, likeliest first, as long as the expected tokens per
second rise. How likely, the gate learns from what became of earlier ones; how long, it knows from a table
measured once for a model and a machine. It reads no clock: the same tokens give the same drafts.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node

_MOST_NODES = 32  # of a branch
_MOST_ROWS = 128  # of a step
_PRIOR = 8.0  # observations that a share counts for before there are any
_TRUST = 0.75  # of a share, at first: what followed before does not always follow
_HOPE = 0.8  # how often a drafter that computes is right, before it was tried
_LONGEST_CHAIN = 8
_MEMORY = 400.0  # observations of a kind; older ones count less and less, as what is drafted for changes
_LATELY = 64.0  # nodes over which a drafter's estimates are held against what came of them
_DOUBT = 2.0  # nodes, all as right as estimated, that count before there are any
_LEAST_GAIN = 1.15  # what drafts must promise: looking for them and walking through them takes time that no table knows
_UNEVEN, _MANY = 0.35, 32  # what they must promise besides where so many paths go on: see `_demanded`
_PATIENCE, _LONGEST_REST = 8, 256  # steps


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of a step by the paths it goes on with and the rows it computes for each, measured at some of both."""

    paths: Sequence[int]  # ascending
    rows: Sequence[Sequence[float]]  # [paths, ...] for each path, ascending from 1
    seconds: Sequence[Sequence[float]]  # [paths, ...]
    draw: float = 0.0  # seconds for each token drawn, besides

    def at(self, paths: int, rows: int) -> float:
        """Interpolated; beyond what was measured, by the last slope."""
        by_paths = [_between(*line, rows / paths) for line in zip(self.rows, self.seconds, strict=True)]
        return _between(self.paths, by_paths, paths)

    def rate(self, tokens: float, paths: int, rows: int) -> float:
        """Tokens per second of steps that draw so many tokens."""
        return tokens / (self.at(paths, rows) + self.draw * tokens)


def _between(known: Sequence[float], values: Sequence[float], at: float) -> float:
    """A line through two neighbours of `at`."""
    if len(known) == 1:
        return values[0]
    above = min(max(1, bisect_left(known, at)), len(known) - 1)
    (low, high), (first, second) = known[above - 1 : above + 1], values[above - 1 : above + 1]
    return first + (second - first) * (at - low) / (high - low)


def _demanded(paths: int) -> float:
    """The gain in tokens per second that drafts must promise. Branches whose drafts are right get ahead of the others,
    and the last one ends a batch: among many, what some gain is saved only in the rows of the last steps."""
    return _LEAST_GAIN + _UNEVEN * min(1.0, paths / _MANY)


class Gate(ABC):
    """Decides how much is drafted."""

    @abstractmethod
    def budget(self, groups: int) -> int:
        """Most nodes to propose for each of so many groups of branches."""

    @abstractmethod
    def chain(self, drafter: str, seconds: Callable[[int], float], groups: int) -> int:
        """Most tokens in a row that are worth proposing for each group, where each takes the drafter `seconds` of so
        many groups."""

    @abstractmethod
    def choose(self, drafts: Sequence[Draft], branches: Sequence[int]) -> list[Draft]:
        """What to compute of the drafts of groups of so many branches."""

    @abstractmethod
    def note(self, draft: Draft, accepted: Sequence[int]) -> None:
        """What became of a draft: the nodes the target agreed with, in order."""


@dataclass(slots=True)
class Fixed(Gate):
    """Always so many nodes for each group."""

    nodes: int

    def budget(self, groups: int) -> int:
        return self.nodes

    def chain(self, drafter: str, seconds: Callable[[int], float], groups: int) -> int:
        return self.nodes

    def choose(self, drafts: Sequence[Draft], branches: Sequence[int]) -> list[Draft]:
        return list(drafts)

    def note(self, draft: Draft, accepted: Sequence[int]) -> None:
        return


@dataclass(slots=True)
class _Seen:
    """How often drafts of one kind were right."""

    right: float
    tried: float

    @property
    def share(self) -> float:
        return self.right / self.tried

    def note(self, right: bool) -> None:
        if self.tried >= _MEMORY:
            self.right, self.tried = self.right / 2, self.tried / 2
        self.right, self.tried = self.right + right, self.tried + 1


@dataclass(slots=True)
class _Lately:
    """How far a drafter's estimates hold for the work at hand: another question, another temperature."""

    promised: float = 0.0
    right: float = 0.0

    def note(self, chance: float, right: bool) -> None:
        fade = 1 - 1 / _LATELY
        self.promised, self.right = fade * self.promised + chance, fade * self.right + right

    @property
    def factor(self) -> float:
        return (self.right + _DOUBT) / (self.promised + _DOUBT)


@dataclass
class Paying(Gate):
    """As many as pay."""

    measured: Callable[[], StepCosts]
    """Asked once, when there is something to choose from."""
    _seen: dict[tuple[str, int, int, int], _Seen] = field(default_factory=dict)
    _lately: dict[str, _Lately] = field(default_factory=dict)  # by drafter
    _poor: int = 0  # steps in a row in which drafts were not worth their while
    _resting: int = 0  # steps to go before drafts are looked at again
    _crowd: int = 0  # the groups there were when it last took a rest
    _rest: int = _PATIENCE  # the next rest; each is twice as long as the one before, until drafts pay again

    @cached_property
    def costs(self) -> StepCosts:
        return self.measured()

    def budget(self, groups: int) -> int:
        """A group's part of the rows; none while it rests, which it does not for a batch half as large."""
        if 2 * groups <= self._crowd:
            self._resting = self._crowd = 0
        if self._resting:
            self._resting -= 1
            return 0
        return min(_MOST_NODES, max(0, _MOST_ROWS // max(1, groups) - 1))

    def chain(self, drafter: str, seconds: Callable[[int], float], groups: int) -> int:
        """The length at which tokens per second are most, every token right as often as this drafter's were so far
        (2211.17192, section 3.2, with measured costs)."""
        each = seconds(groups)
        if not each:
            return _MOST_NODES
        kinds = [seen for kind, seen in self._seen.items() if kind[0] == drafter]
        right, tried = sum(seen.right for seen in kinds), sum(seen.tried for seen in kinds)
        chance = (right + _PRIOR * _HOPE) / (tried + _PRIOR)
        best, length = self.costs.rate(groups, groups, groups), 0
        expected = 1.0
        for tokens in range(1, _LONGEST_CHAIN + 1):
            expected += chance**tokens
            took = self.costs.at(groups, groups * (1 + tokens)) + each * tokens
            rate = groups * expected / (took + self.costs.draw * groups * expected)
            if rate > best:
                best, length = rate, tokens
        return length

    def choose(self, drafts: Sequence[Draft], branches: Sequence[int]) -> list[Draft]:
        if not any(drafts):
            return list(drafts)
        worth: list[tuple[float, int, int]] = []  # (expected tokens, group, node)
        for group, (draft, count) in enumerate(zip(drafts, branches, strict=True)):
            worth.extend((count * chance, group, node) for node, chance in enumerate(self.chances(draft)))
        worth.sort(key=lambda one: (-one[0], one[1], one[2]))
        paths, expected = len(drafts), float(sum(branches))
        plain = self.costs.rate(expected, paths, paths)
        best, taken = plain * _demanded(paths), 0
        for number, (tokens, _, _) in enumerate(worth, start=1):
            expected += tokens
            rate = self.costs.rate(expected, paths, paths + number)
            if rate > best:
                best, taken = rate, number
        self._rest_if_poor(paths, taken)
        chosen: list[set[int]] = [set() for _ in drafts]
        for _, group, node in worth[:taken]:
            chosen[group].add(node)
        return [
            draft.kept(nodes) if len(nodes) < len(draft) else draft for draft, nodes in zip(drafts, chosen, strict=True)
        ]

    def _rest_if_poor(self, groups: int, taken: int) -> None:
        """Looking for drafts takes time, too."""
        if taken:
            self._poor, self._rest = 0, _PATIENCE
            return
        self._poor += 1
        if self._poor == _PATIENCE:
            self._poor, self._resting, self._crowd = 0, self._rest, groups
            self._rest = min(2 * self._rest, _LONGEST_REST)

    def chances(self, draft: Draft) -> list[float]:
        """[nodes] estimated probability that the target chooses a node and everything before it."""
        found: list[float] = []
        for node in draft.nodes:
            before = 1.0 if node.parent == ROOT else found[node.parent]
            found.append(before * min(1.0, self._of(node).share * self._lately_of(node).factor))
        return found

    def note(self, draft: Draft, accepted: Sequence[int]) -> None:
        reached, right = {ROOT, *accepted}, set(accepted)
        for place, node in enumerate(draft.nodes):
            if node.parent in reached:
                seen = self._of(node)
                self._lately_of(node).note(seen.share, place in right)
                seen.note(place in right)

    def _of(self, node: Node) -> _Seen:
        kind = node.drafter, min(node.match, 8), min(9, int(10 * node.share)), min(3, node.seen.bit_length())
        if kind not in self._seen:
            trust = _TRUST if node.match > 1 else _TRUST / 2
            self._seen[kind] = _Seen(_PRIOR * trust * node.share, _PRIOR)
        return self._seen[kind]

    def _lately_of(self, node: Node) -> _Lately:
        return self._lately.setdefault(node.drafter, _Lately())
