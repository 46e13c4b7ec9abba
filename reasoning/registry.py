"""Strategies by name, and the parser of `name:option=value` for the command line and configuration files."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling
from branchwise.search import DVTS, MCTS, Beam, BestFirst, BestOfN, ParticleFilter, Rebase, ToTBFS, ToTDFS
from branchwise.strategies.options import apply_options, join_options, split_options
from branchwise.strategies.strategy import AnyStrategy
from branchwise.strategies.voting import (
    AdaptiveConsistency,
    AdaptivePathConsistency,
    BlendASC,
    DeepConf,
    DeepConfOnline,
    EarlyStopping,
    Greedy,
    PathConsistency,
    PrefixConsistency,
    SelfConsistency,
    WeightedVote,
)

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
"""Constructors by name; each takes the maximum number of paths of a question and the sampling settings."""

DEFAULT_STRATEGY = AdaptivePathConsistency.name
"""Used if the user names no strategy; docs/results.md has the measurements behind the choice."""


def _width(paths: int) -> int:
    """Return the default width of a beam: the largest of 4, 3, 2 and 1 that divides the paths."""
    return next(width for width in (4, 3, 2, 1) if paths % width == 0)


class NamedStrategy(NamedTuple):
    """A strategy and the text that describes it."""

    name: str
    """The normalized text: `parse_strategy(name, ...)` returns the same strategy."""
    strategy: AnyStrategy


def make_strategy(spec: str, paths: int, sampling: Sampling) -> AnyStrategy:
    """Return the strategy that `spec` describes; see `parse_strategy`."""
    return parse_strategy(spec, paths, sampling).strategy


def parse_strategy(spec: str, paths: int, sampling: Sampling) -> NamedStrategy:
    """Return the strategy that `NAME` or `NAME:option=value,option=value` describes, and its normalized text.

    Options are the strategy's fields of plain types; `none` is None. A comma in a value is written `\\,`, and a
    backslash before a comma or another backslash `\\\\`. Raises ConfigError with the closest name if the strategy or
    an option is unknown, and if a value is invalid.
    """
    name, colon, rest = spec.partition(":")
    name = name.strip()
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(STRATEGIES)}"
        raise ConfigError("strategy", f"{name!r} is unknown", hint)
    default = STRATEGIES[name](paths, sampling)
    if not colon:
        return NamedStrategy(name, default)
    changed, given = apply_options(default, split_options(rest), "strategy", name)
    return NamedStrategy(f"{name}:{join_options(given)}", changed)
