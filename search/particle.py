"""Particle filtering: resample the paths by their scores after every step."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.keys import choose
from branchwise.core.path import Path
from branchwise.search.levels import Branching, LevelSearch, LevelState
from branchwise.search.node import Node
from branchwise.strategies.actions import DEFAULT_PATHS

_RESOLUTION = 1 << 53
"""Number of equidistant values of a random number from 0 to 1."""


@dataclass(slots=True)
class ParticleState(LevelState):
    """The state of a search and its particles."""

    particles: Counter[Node] = field(default_factory=Counter)
    """Number of particles at each node."""


@dataclass(frozen=True, slots=True)
class ParticleFilter(LevelSearch):
    """Move `paths` particles by one step each, then resample all of them with weights softmax(logit(score) /
    temperature) (Puri et al. 2025, arXiv 2502.01618). Particles whose path has ended are resampled without a step.

    Scores are probabilities; scores outside 0 to 1 are clipped.
    """

    name: ClassVar[str] = "particle"

    paths: int = DEFAULT_PATHS
    """Number of particles."""
    systematic: bool = False
    """Resample systematically (one random number for all particles, evenly spaced) instead of multinomially."""
    temperature: float = 1.0
    """Values above 1 flatten the weights."""

    def __post_init__(self) -> None:
        LevelSearch.__post_init__(self)
        require(self.temperature > 0, "temperature", f"is {self.temperature}", "use a number above 0")

    def initial_state(self, root: Path) -> ParticleState:
        return ParticleState(root)

    def next_level(self, state: LevelState, families: Sequence[Sequence[Node]]) -> Sequence[Branching]:
        assert isinstance(state, ParticleState)
        current = Counter({node: times for node, times in state.particles.items() if node.ended})
        current.update(node for family in families for node in family)
        state.particles = self._resample(state, current)
        moving = [node for node in state.particles if not node.ended]
        return [Branching(node, state.particles[node]) for node in sorted(moving, key=lambda node: node.number)]

    def voting_nodes(self, state: LevelState) -> Sequence[Node]:
        assert isinstance(state, ParticleState)
        ended: list[Node] = []
        for node, times in state.particles.items():
            # A particle that moved since the last resampling is at a child of its node.
            ended += [node] * times if node.ended else [child for child in node.children if child.ended]
        return ended

    def _resample(self, state: ParticleState, current: Counter[Node]) -> Counter[Node]:
        """Return `paths` particles resampled from the current ones."""
        nodes = sorted(current, key=lambda node: node.number)
        logits = [_logit(self.score(node)) / self.temperature for node in nodes]
        highest = max(logits, default=0.0)
        weights = [current[node] * math.exp(logit - highest) for node, logit in zip(nodes, logits, strict=True)]
        resampled: Counter[Node] = Counter()
        for point in self._points(state) if nodes else ():
            resampled[nodes[_index_at(weights, point * sum(weights))]] += 1
        return resampled

    def _points(self, state: ParticleState) -> Iterator[float]:
        """Yield `paths` random numbers in [0, 1) that depend on the prompt's key and the depth alone."""
        for ordinal in range(self.paths):
            index = 0 if self.systematic else ordinal
            uniform = choose(state.root.key, f"resample {state.depth}", index, _RESOLUTION) / _RESOLUTION
            yield (ordinal + uniform) / self.paths if self.systematic else uniform


def _logit(score: float) -> float:
    clipped = min(1 - 1e-6, max(1e-6, score))
    return math.log(clipped / (1 - clipped))


def _index_at(weights: Sequence[float], point: float) -> int:
    """Return the index of the weight whose interval of the cumulative sum contains `point`."""
    for index, weight in enumerate(weights):
        if point < weight:
            return index
        point -= weight
    return len(weights) - 1
