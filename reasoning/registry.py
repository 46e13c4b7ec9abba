"""Strategies by name, for the command line and configuration files."""

import difflib
from collections.abc import Callable

from branchwise.consistency.greedy import Greedy
from branchwise.consistency.path_consistency import PathConsistency
from branchwise.consistency.self_consistency import SelfConsistency
from branchwise.errors import ConfigError
from branchwise.sampling import Sampling
from branchwise.search.best_of_n import BestOfN
from branchwise.strategy import AnyStrategy

STRATEGIES: dict[str, Callable[[int, Sampling], AnyStrategy]] = {
    "greedy": lambda paths, sampling: Greedy(sampling),
    "self-consistency": SelfConsistency,
    "path-consistency": lambda paths, sampling: PathConsistency(paths, sampling=sampling),
    "path-consistency-plain": PathConsistency.plain,
    "best-of-n": BestOfN,
}


def strategy(name: str, paths: int, sampling: Sampling) -> AnyStrategy:
    """The strategy called `name`. Raises ConfigError, with the nearest name, when there is none."""
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(STRATEGIES)}"
        raise ConfigError("strategy", f"{name!r} is unknown", hint)
    return STRATEGIES[name](paths, sampling)
