"""Strategies over many orders of the same paths: `python -m research.orders POOL`.

An evaluation asks every question once, and whether a strategy that stops early was right is partly luck: which paths
came first. POOL is an evaluation whose paths all start at the prompt, so that any order of them was as likely. Every
strategy is told them in the same `--orders` random orders; a question counts with its mean. Intervals are over
questions, given these paths: others could have another majority. No model is asked: a strategy that continues paths, or
judges them, is refused.
"""

import argparse
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from random import Random
from typing import NamedTuple

from branchwise import registry
from branchwise.cli.render.summary_table import points
from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError, ConfigError, require
from branchwise.core.messages import as_messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.results import read_results
from branchwise.evaluation.statistics import difference, mean, ratio
from branchwise.strategies.actions import Extend, Finished
from branchwise.strategies.strategy import AnyStrategy
from research.tables import change, grid, share


def usual(paths: int) -> tuple[str, ...]:
    """Strategies that draw at most so many paths from the prompt and count answers."""
    return (
        "self-consistency",
        *(f"self-consistency:paths={fewer}" for fewer in (20, 10) if fewer < paths),
        "adaptive-consistency",
        "adaptive-consistency:stop_at=0.9",
        "adaptive-consistency:stop_at=0.8",
        "esc",
        *((f"blend-asc:paths=10,most={paths}",) if paths > 10 else ()),
        "adaptive-path-consistency:ties=0",
    )


class Drawn(NamedTuple):
    """A path of a question."""

    vote: str | None
    tokens: int
    right: bool


class Told(NamedTuple):
    """What a strategy made of one question, on average over the orders."""

    right: float
    tokens: float
    paths: float


def pooled(answered: Sequence[Answered], skip: int = 0, limit: int | None = None) -> list[list[Drawn]]:
    """[questions][paths] of them. ConfigError where a path doesn't start at the prompt, or questions have unequal
    numbers of paths."""
    strategies = {one.strategy for one in answered}
    require(len(strategies) <= 1, "pool", f"has {len(strategies)} strategies", "name a run of self-consistency alone")
    require(skip >= 0, "skip", f"is {skip}", "use 0 or more")
    require(limit is None or limit >= 1, "limit", f"is {limit}", "use at least 1")
    chosen = answered[skip:] if limit is None else answered[skip : skip + limit]
    require(bool(chosen), "pool", "has no such questions", "choose others with --skip and --limit")
    for one in chosen:
        rooted = all(path.parent is None for path in one.paths)
        require(rooted, "pool", f"continues paths of {one.id}", "draw one with self-consistency")
    sizes = {len(one.paths) for one in chosen}
    require(len(sizes) == 1, "pool", f"has {min(sizes)} to {max(sizes)} paths a question", "draw equally many")
    return [
        [Drawn(path.vote, path.tokens, right) for path, right in zip(one.paths, one.right, strict=True)]
        for one in chosen
    ]


def told(strategy: AnyStrategy, questions: Sequence[Sequence[Drawn]]) -> list[Told]:
    """What the strategy makes of the questions, each one's paths in this order."""
    roots = [Path(None, place, (), "", messages=as_messages("?")) for place in range(len(questions))]
    places = {id(root): place for place, root in enumerate(roots)}
    state, waiting = strategy.start(roots), deque[tuple[Extend, int]]()
    drawn, branches = [0] * len(questions), 0
    while True:
        for action in strategy.ask(state):
            if not isinstance(action, Extend) or id(action.path) not in places or action.sampling != Sampling():
                raise _needs_model(strategy)
            waiting.extend((action, branches + copy) for copy in range(action.count))
            branches += action.count
        if not waiting:
            break
        action, branch = waiting.popleft()
        place = places[id(action.path)]
        require(drawn[place] < len(questions[place]), "paths", "are more than the pool has", "ask for fewer")
        one = questions[place][drawn[place]]
        drawn[place] += 1
        path = Path(action.path, branch, (), text="?", stop_reason=StopReason.END)
        answer = None if one.vote is None else Answer(one.vote)
        strategy.tell(state, Finished(place, action, branch, path, answer, ()))
    decisions = strategy.finish(state)
    if any(decision.degraded for decision in decisions):  # for want of tokens, steps or log-probabilities
        raise _needs_model(strategy)
    return [
        _told(None if decision.answer is None else decision.answer.value, paths, taken)
        for decision, paths, taken in zip(decisions, questions, drawn, strict=True)
    ]


def _needs_model(strategy: AnyStrategy) -> ConfigError:
    return ConfigError(
        "strategy", f"{strategy.name} reads more of paths than their answers", "choose one that draws from the prompt "
        "and counts answers (adaptive-path-consistency: ties=0)",
    )  # fmt: skip


def _told(answer: str | None, paths: Sequence[Drawn], taken: int) -> Told:
    right = any(path.right and path.vote == answer for path in paths)
    return Told(float(right), float(sum(path.tokens for path in paths[:taken])), float(taken))


def averaged(
    strategies: Mapping[str, AnyStrategy], questions: Sequence[Sequence[Drawn]], orders: int, seed: int
) -> dict[str, list[Told]]:
    """[strategies][questions]; the orders are the same for all strategies."""
    require(orders >= 1, "orders", f"is {orders}", "use at least 1")
    found: dict[str, list[list[Told]]] = {name: [] for name in strategies}
    lots = Random(seed)
    for _ in range(orders):
        order = [lots.sample(paths, len(paths)) for paths in questions]
        for name, strategy in strategies.items():
            found[name].append(told(strategy, order))
    return {name: [_mean(times) for times in zip(*runs, strict=True)] for name, runs in found.items()}


def _mean(times: Sequence[Told]) -> Told:
    return Told(*(sum(figures) / len(times) for figures in zip(*times, strict=True)))


def table(found: Mapping[str, Sequence[Told]]) -> str:
    """In Markdown; tokens and paths are those of a question."""
    head = ["strategy", "accuracy, 95%", "to the first", "tokens", "to the first ", "paths"]
    first = next(iter(found.values()))
    rows = []
    for name, ours in found.items():
        right, tokens = [one.right for one in ours], [one.tokens for one in ours]
        apart = ["", ""]
        if ours is not first:
            base = [one.right for one in first]
            apart = [
                "the same" if right == base else points(difference(right, base)),
                change(ratio(tokens, [one.tokens for one in first])),
            ]
        paths = sum(one.paths for one in ours) / len(ours)
        rows.append([name, share(mean(right)), apart[0], f"{sum(tokens) / len(ours):,.0f}", apart[1], f"{paths:.1f}"])
    return grid(head, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parse = argparse.ArgumentParser(prog="python -m research.orders", description=__doc__)
    parse.add_argument("pool", type=File)
    parse.add_argument("--strategy", action="append", help="by name, with its options; repeat it. Default: those that "
                       "draw from the prompt and count answers")  # fmt: skip
    parse.add_argument("--paths", type=int, help="of a question; default: all that the pool has")
    parse.add_argument("--skip", type=int, default=0, metavar="K", help="leave out the pool's first K questions")
    parse.add_argument("--limit", type=int, metavar="K", help="no more than K questions")
    parse.add_argument("--orders", type=int, default=50, help="random orders of each question's paths (50)")
    parse.add_argument("--seed", type=int, default=0, help="of the orders")
    args = parse.parse_args(arguments)
    try:
        questions = pooled(read_results(args.pool), args.skip, args.limit)
        paths = len(questions[0]) if args.paths is None else args.paths
        strategies = {
            name: registry.strategy(name, paths, Sampling()) for name in dict.fromkeys(args.strategy or usual(paths))
        }
        print(table(averaged(strategies, questions, args.orders, args.seed)))
    except BranchwiseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
