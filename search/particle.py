"""Particle filtering: paths are resampled by their values after every step."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.keys import choose
from branchwise.core.path import Path
from branchwise.search.level_search import Growth, Levels, LevelSearch
from branchwise.search.node import Node

_FINE = 1 << 53  # steps of a uniform number


@dataclass(slots=True)
class Particles(Levels):
    """A search, and its particles; a node may be several of them."""

    particles: Counter[Node] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class ParticleFilter(LevelSearch):
    """`paths` particles take a step each, then all are resampled, with weights softmax(logit(score) / temperature)
    (Puri et al. 2025, arXiv 2502.01618). Particles whose path has ended stay among them as they are.

    Scores are probabilities; what is outside 0 to 1 counts as the nearest of them.
    """

    name: ClassVar[str] = "particle"

    paths: int = 16
    """Particles."""
    systematic: bool = False
    """Whether resampling is systematic (one draw for all, evenly spaced), not multinomial."""
    temperature: float = 1.0
    """Above 1, values count for less."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(self.temperature > 0, "temperature", f"is {self.temperature}", "use a number above 0")

    def begin(self, root: Path) -> Particles:
        return Particles(root)

    def first(self, search: Levels) -> Sequence[Growth]:
        return [Growth(search.prompt, self.paths)]

    def select(self, search: Levels, families: Sequence[Sequence[Node]]) -> Sequence[Growth]:
        assert isinstance(search, Particles)
        known = Counter({node: times for node, times in search.particles.items() if node.ended})
        known.update(node for family in families for node in family)
        search.particles = self._resample(search, known)
        going = [node for node in search.particles if not node.ended]
        return [Growth(node, search.particles[node]) for node in sorted(going, key=lambda node: node.number)]

    def candidates(self, search: Levels) -> Sequence[Node]:
        assert isinstance(search, Particles)
        ended: list[Node] = []
        for node, times in search.particles.items():  # those that took a step since are where it led
            ended += [node] * times if node.ended else [child for child in node.children if child.ended]
        return ended

    def _resample(self, search: Particles, known: Counter[Node]) -> Counter[Node]:
        """`paths` particles drawn from those there are."""
        nodes = sorted(known, key=lambda node: node.number)
        logits = [_logit(self.score(node)) / self.temperature for node in nodes]
        most = max(logits, default=0.0)
        weights = [known[node] * math.exp(one - most) for node, one in zip(nodes, logits, strict=True)]
        drawn: Counter[Node] = Counter()
        for point in self._points(search) if nodes else ():
            drawn[nodes[_place(weights, point * sum(weights))]] += 1
        return drawn

    def _points(self, search: Particles) -> Iterator[float]:
        """[paths] numbers from 0 to below 1: a function of the prompt's key and the depth."""
        for ordinal in range(self.paths):
            drawn = (
                choose(search.root.key, f"resample {search.depth}", 0 if self.systematic else ordinal, _FINE) / _FINE
            )
            yield (ordinal + drawn) / self.paths if self.systematic else drawn


def _logit(score: float) -> float:
    inside = min(1 - 1e-6, max(1e-6, score))
    return math.log(inside / (1 - inside))


def _place(weights: Sequence[float], point: float) -> int:
    """The weight within whose part of their sum a point lies."""
    for place, weight in enumerate(weights):
        if point < weight:
            return place
        point -= weight
    return len(weights) - 1
