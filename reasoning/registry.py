"""Strategies by name, for the command line and configuration files."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling
from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.best_of_n import BestOfN
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.strategies.spec import joined, split, with_options
from branchwise.strategies.strategy import AnyStrategy
from branchwise.strategies.voting.adaptive_consistency import AdaptiveConsistency
from branchwise.strategies.voting.adaptive_path_consistency import AdaptivePathConsistency
from branchwise.strategies.voting.blend_asc import BlendASC
from branchwise.strategies.voting.deepconf import DeepConf
from branchwise.strategies.voting.deepconf_online import DeepConfOnline
from branchwise.strategies.voting.early_stopping import EarlyStopping
from branchwise.strategies.voting.greedy import Greedy
from branchwise.strategies.voting.path_consistency import PathConsistency
from branchwise.strategies.voting.prefix_consistency import PrefixConsistency
from branchwise.strategies.voting.self_consistency import SelfConsistency
from branchwise.strategies.voting.weighted_vote import WeightedVote

STRATEGIES: dict[str, Callable[[int, Sampling], AnyStrategy]] = {
    "greedy": lambda paths, sampling: Greedy(sampling),
    "self-consistency": SelfConsistency,
    "path-consistency": lambda paths, sampling: PathConsistency(paths, sampling=sampling),
    "path-consistency-plain": PathConsistency.plain,
    "adaptive-path-consistency": lambda paths, sampling: AdaptivePathConsistency(paths, sampling=sampling),
    "adaptive-consistency": lambda paths, sampling: AdaptiveConsistency(paths, sampling=sampling),
    "adaptive-consistency-dirichlet": lambda paths, sampling: AdaptiveConsistency(
        paths, rule="dirichlet", sampling=sampling
    ),
    "esc": lambda paths, sampling: EarlyStopping(paths, sampling=sampling),
    "blend-asc": lambda paths, sampling: BlendASC(paths, most=max(40, paths), sampling=sampling),
    "prefix-consistency": lambda paths, sampling: PrefixConsistency(max(1, paths // 2), sampling=sampling),
    "weighted-vote": lambda paths, sampling: WeightedVote(paths, sampling=sampling),
    "cisc": WeightedVote.cisc,
    "deepconf": lambda paths, sampling: DeepConf(paths, sampling=sampling),
    "deepconf-online": lambda paths, sampling: DeepConfOnline(paths, sampling=sampling),
    "best-of-n": lambda paths, sampling: BestOfN(paths, sampling=sampling),
    "weighted-best-of-n": lambda paths, sampling: BestOfN(paths, choose="weighted", sampling=sampling),
    "beam": lambda paths, sampling: Beam(paths, width=_width(paths), sampling=sampling),
    "dvts": lambda paths, sampling: DVTS(paths, width=_width(paths), sampling=sampling),
    "rebase": lambda paths, sampling: Rebase(paths, sampling=sampling),
    "particle": lambda paths, sampling: ParticleFilter(paths, sampling=sampling),
    "mcts": lambda paths, sampling: MCTS(paths, sampling=sampling),
    "tot-bfs": lambda paths, sampling: ToTBFS(paths, keep=min(4, paths), sampling=sampling),
    "tot-dfs": lambda paths, sampling: ToTDFS(paths, sampling=sampling),
    "best-first": lambda paths, sampling: BestFirst(paths, sampling=sampling),
}
"""By name, from the most paths of a question and how to draw them."""

DEFAULT = AdaptivePathConsistency.name
"""Where none is named; docs/results.md says why this one."""


def _width(paths: int) -> int:
    """How many next steps each path of a beam gets: four, where that divides the paths."""
    return next(width for width in (4, 3, 2, 1) if paths % width == 0)


class Named(NamedTuple):
    """A strategy with options, and what it is called."""

    name: str
    """As `named` takes it, its options in their own order."""
    strategy: AnyStrategy


def strategy(spec: str, paths: int, sampling: Sampling) -> AnyStrategy:
    """The strategy that `spec` describes; see `named`."""
    return named(spec, paths, sampling).strategy


def named(spec: str, paths: int, sampling: Sampling) -> Named:
    """The strategy that a text describes: `NAME` or `NAME:option=value,option=value`.

    Options are the strategy's fields of plain types; `none` is None. A comma in a value is written `\\,` and a
    backslash before a comma or a backslash `\\\\`. Raises ConfigError, with the nearest name, where there is no such
    strategy or option, and where a value makes no sense.
    """
    name, colon, rest = spec.partition(":")
    name = name.strip()
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(STRATEGIES)}"
        raise ConfigError("strategy", f"{name!r} is unknown", hint)
    default = STRATEGIES[name](paths, sampling)
    if not colon:
        return Named(name, default)
    changed, given = with_options(default, split(rest), "strategy", name)
    return Named(f"{name}:{joined(given)}", changed)
