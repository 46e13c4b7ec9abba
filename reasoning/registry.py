"""Strategies by name, for the command line and configuration files."""

import difflib
from collections.abc import Callable

from branchwise.consistency.adaptive_consistency import AdaptiveConsistency
from branchwise.consistency.adaptive_path_consistency import AdaptivePathConsistency
from branchwise.consistency.blend_asc import BlendASC
from branchwise.consistency.deepconf import DeepConf
from branchwise.consistency.deepconf_online import DeepConfOnline
from branchwise.consistency.early_stopping import EarlyStopping
from branchwise.consistency.greedy import Greedy
from branchwise.consistency.path_consistency import PathConsistency
from branchwise.consistency.prefix_consistency import PrefixConsistency
from branchwise.consistency.self_consistency import SelfConsistency
from branchwise.consistency.weighted_vote import WeightedVote
from branchwise.errors import ConfigError
from branchwise.sampling import Sampling
from branchwise.search.best_of_n import BestOfN
from branchwise.strategy import AnyStrategy

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
    "best-of-n": BestOfN,
}
"""By name, from the most paths of a question and how to draw them."""


def strategy(name: str, paths: int, sampling: Sampling) -> AnyStrategy:
    """The strategy called `name`. Raises ConfigError, with the nearest name, when there is none."""
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(STRATEGIES)}"
        raise ConfigError("strategy", f"{name!r} is unknown", hint)
    return STRATEGIES[name](paths, sampling)
