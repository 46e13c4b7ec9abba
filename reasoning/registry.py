"""Strategies by name or in the user's own code, and the parser of `name:option=value`.

NAME                              one of STRATEGIES
MODULE:CLASS, FILE.py:CLASS       a class derived from Strategy whose fields have defaults, or an object of one
"""

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling
from branchwise.core.validation import suggestion
from branchwise.search import DVTS, MCTS, Beam, BestFirst, BestOfN, ParticleFilter, Rebase, ToTBFS, ToTDFS
from branchwise.strategies.actions import DEFAULT_PATHS
from branchwise.strategies.judging import Judge, SemanticConsistency, UniversalSelfConsistency
from branchwise.strategies.options import apply_options, join_options, split_options
from branchwise.strategies.strategy import AnyStrategy, Strategy
from branchwise.strategies.user_code import load_object
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
    "deepconf-online": lambda paths, sampling: DeepConfOnline(paths, warm_up=_warm_up(paths), sampling=sampling),
    "universal-self-consistency": lambda paths, sampling: UniversalSelfConsistency(paths, sampling=sampling),
    "semantic-consistency": SemanticConsistency,
    "judge": lambda paths, sampling: Judge(paths, sampling=sampling),
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

_OWN = re.compile(r"(?P<name>(?:.+?\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*)(?::(?P<options>.*))?")
"""MODULE:CLASS or FILE.py:CLASS, with options."""


def _width(paths: int) -> int:
    """Return the default width of a beam: the largest of 4, 3, 2 and 1 that divides the paths."""
    return next(width for width in (4, 3, 2, 1) if paths % width == 0)


def _warm_up(paths: int) -> int:
    """Return the default warm-up: half of the paths, and at most the paper's 16."""
    return min(16, max(1, paths // 2))


class NamedStrategy(NamedTuple):
    """A strategy and the text that describes it."""

    name: str
    """The normalized text: `parse_strategy(name, ...)` returns the same strategy."""
    strategy: AnyStrategy


def make_strategy(spec: str, paths: int | None, sampling: Sampling) -> AnyStrategy:
    """Return the strategy that `spec` describes; see `parse_strategy`."""
    return parse_strategy(spec, paths, sampling).strategy


def parse_strategy(spec: str, paths: int | None, sampling: Sampling) -> NamedStrategy:
    """Return the strategy that `NAME` or `NAME:option=value,option=value` describes, and its normalized text.

    `paths` is the maximum number of paths; None keeps the default of the strategy.
    Options are the strategy's fields of plain types; `none` is None. A comma in a value is written `\\,`, and a
    backslash before a comma or another backslash `\\\\`. The name of a class of the user's own loads its code. Raises
    ConfigError with the closest name if the strategy or an option is unknown, and if a value is invalid.
    """
    name, options = split_spec(spec)
    if name in STRATEGIES:
        default = STRATEGIES[name](DEFAULT_PATHS if paths is None else paths, sampling)
    elif ":" in name or name.endswith(".py"):
        default = _own_strategy(name, paths, sampling)
    else:
        raise _unknown(name)
    if options is None:
        return NamedStrategy(name, default)
    changed, given = apply_options(default, split_options(options), "strategy", name)
    return NamedStrategy(f"{name}:{join_options(given)}", changed)


def split_spec(spec: str) -> tuple[str, str | None]:
    """Return the name of a strategy and its options, or None without a colon after the name."""
    name, colon, options = spec.partition(":")
    own = None if name.strip() in STRATEGIES else _OWN.fullmatch(spec.strip())
    if own is not None:
        return own["name"], own["options"]
    return name.strip(), options if colon else None


def check_named(spec: str) -> None:
    """Raise ConfigError unless `spec` names a strategy of the registry, as requests from the network must."""
    name, _ = split_spec(spec)
    if name not in STRATEGIES:
        raise _unknown(name)


def _unknown(name: str) -> ConfigError:
    fix = suggestion(name, STRATEGIES, f"use one of {', '.join(STRATEGIES)}")
    return ConfigError("strategy", f"{name!r} is unknown", fix)


def _own_strategy(spec: str, paths: int | None, sampling: Sampling) -> AnyStrategy:
    """Return the strategy at MODULE:CLASS or FILE.py:CLASS, with `paths` and `sampling` set if it has such fields."""
    found = load_object(spec, "strategy", "CLASS")
    if isinstance(found, Strategy):
        return found
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        kind = "another class" if isinstance(found, type) else f"of type {type(found).__name__}"
        fix = "name a class derived from branchwise.PerQuestion or Strategy"
        raise ConfigError("strategy", f"{spec} is not a strategy but {kind}", fix)
    try:
        fields = inspect.signature(found).parameters
        settings = {"sampling": sampling} if paths is None else {"paths": paths, "sampling": sampling}
        made: AnyStrategy = found(**{name: value for name, value in settings.items() if name in fields})
    except ConfigError:
        raise
    except Exception as error:  # the constructor is the user's code, and may raise anything
        why = " ".join(str(error).split())
        problem = f"{spec} can't be made ({type(error).__name__}: {why})"
        raise ConfigError("strategy", problem, "give every field a default, and implement every method") from error
    return made
