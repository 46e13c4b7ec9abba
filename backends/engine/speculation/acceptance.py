"""Acceptance rates of drafts, estimated from earlier ones. The draft budget selects by them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node

_PRIOR_COUNT = 8.0  # observations that a drafter's own estimate weighs as much as
_PRIOR_TRUST = 0.75  # of that estimate: what followed a context once does not always follow it
_CHAIN_PRIOR = 0.8  # acceptance rate of a drafter that runs a model, before any observation
_MEMORY = 400.0  # observations of a kind, after which older ones count half
_RECENT = 64.0  # nodes over which a drafter's estimates are compared with their outcomes
_RECENT_PRIOR = 2.0  # nodes accepted exactly as estimated, counted before any observation


class _Kind(NamedTuple):
    """Drafts that share an acceptance rate."""

    drafter: str
    match_length: int  # at most 8
    probability: int  # tenths
    occurrences: int  # bits, at most 3


@dataclass(slots=True)
class _Rate:
    """The acceptance rate of one kind."""

    accepted: float
    tried: float

    @property
    def value(self) -> float:
        return self.accepted / self.tried

    def record(self, accepted: bool) -> None:
        if self.tried >= _MEMORY:
            self.accepted, self.tried = self.accepted / 2, self.tried / 2
        self.tried += 1
        if accepted:
            self.accepted += 1


@dataclass(slots=True)
class _Recent:
    """Recent outcomes of one drafter against its estimates: a new question or temperature shifts all its rates."""

    expected: float = 0.0
    accepted: float = 0.0

    def record(self, probability: float, accepted: bool) -> None:
        decay = 1 - 1 / _RECENT
        self.expected = decay * self.expected + probability
        self.accepted = decay * self.accepted + (1.0 if accepted else 0.0)

    @property
    def factor(self) -> float:
        """Accepted nodes for each expected one."""
        return (self.accepted + _RECENT_PRIOR) / (self.expected + _RECENT_PRIOR)


@dataclass(slots=True)
class AcceptanceRates:
    """Acceptance rates by kind of draft, scaled by the drafter's recent outcomes."""

    _rates: dict[_Kind, _Rate] = field(default_factory=dict)
    _recent: dict[str, _Recent] = field(default_factory=dict)  # by drafter

    def record(self, draft: Draft, accepted: Sequence[int]) -> None:
        """Record a verified draft, whose nodes `accepted` were accepted, in order."""
        reached, right = {ROOT, *accepted}, set(accepted)
        for place, node in enumerate(draft.nodes):
            if node.parent in reached:
                rate = self._rate(node)
                self._recent_of(node).record(rate.value, place in right)
                rate.record(place in right)

    def probabilities(self, draft: Draft) -> list[float]:
        """Return [nodes] the estimated probability that a node and all its ancestors are accepted."""
        found: list[float] = []
        for node in draft.nodes:
            before = 1.0 if node.parent == ROOT else found[node.parent]
            found.append(before * min(1.0, self._rate(node).value * self._recent_of(node).factor))
        return found

    def of_drafter(self, drafter: str) -> float:
        """Return the acceptance rate of all of a drafter's nodes."""
        rates = [rate for kind, rate in self._rates.items() if kind.drafter == drafter]
        accepted, tried = sum(rate.accepted for rate in rates), sum(rate.tried for rate in rates)
        return (accepted + _PRIOR_COUNT * _CHAIN_PRIOR) / (tried + _PRIOR_COUNT)

    def _rate(self, node: Node) -> _Rate:
        kind = _Kind(
            node.drafter,
            min(node.match_length, 8),
            min(9, int(10 * node.probability)),
            min(3, node.occurrences.bit_length()),
        )
        if kind not in self._rates:
            trust = _PRIOR_TRUST if node.match_length > 1 else _PRIOR_TRUST / 2
            self._rates[kind] = _Rate(_PRIOR_COUNT * trust * node.probability, _PRIOR_COUNT)
        return self._rates[kind]

    def _recent_of(self, node: Node) -> _Recent:
        return self._recent.setdefault(node.drafter, _Recent())
