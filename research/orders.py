"""Compare strategies over many orders of the same paths: `python -m research.orders POOL`.

The result of a strategy that stops early depends on the order of the paths. POOL is an evaluation whose paths all start
at the prompt, so every order of them was equally likely. Every strategy sees the paths in the same `--orders` random
orders, and a question counts with its mean. Intervals are over questions, given these paths: other paths could have
another majority. No model runs, so strategies that continue or judge paths are rejected.
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
from branchwise.core.path import Path, StopReason
from branchwise.core.question import as_messages
from branchwise.core.sampling import Sampling
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.results import read_results
from branchwise.evaluation.statistics import difference, mean, ratio
from branchwise.strategies.actions import Extend, Finished
from branchwise.strategies.strategy import AnyStrategy
from research.tables import change, grid, share


def default_strategies(paths: int) -> tuple[str, ...]:
    """Return the strategies that sample at most `paths` paths from the prompt and count answers."""
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


class PoolPath(NamedTuple):
    """A recorded path of a question."""

    vote: str | None
    tokens: int
    right: bool


class QuestionResult(NamedTuple):
    """A strategy's result on one question, or its mean over the orders."""

    right: float
    tokens: float
    paths: float


def pooled(answered: Sequence[Answered], skip: int = 0, limit: int | None = None) -> list[list[PoolPath]]:
    """Return the paths of the pool as `[questions][paths]`.

    Raises ConfigError if a path does not start at the prompt or questions have unequal numbers of paths.
    """
    strategies = {one.strategy for one in answered}
    require(len(strategies) <= 1, "pool", f"has {len(strategies)} strategies", "name a run of self-consistency alone")
    require(skip >= 0, "skip", f"is {skip}", "use 0 or more")
    require(limit is None or limit >= 1, "limit", f"is {limit}", "use at least 1")
    chosen = answered[skip:] if limit is None else answered[skip : skip + limit]
    require(bool(chosen), "pool", "has no such questions", "choose others with --skip and --limit")
    for one in chosen:
        from_prompt = all(path.parent is None for path in one.paths)
        require(from_prompt, "pool", f"continues paths of {one.id}", "sample one with self-consistency")
    sizes = {len(one.paths) for one in chosen}
    require(len(sizes) == 1, "pool", f"has {min(sizes)} to {max(sizes)} paths a question", "sample equally many")
    return [
        [PoolPath(path.vote, path.tokens, right) for path, right in zip(one.paths, one.right, strict=True)]
        for one in chosen
    ]


def replay(strategy: AnyStrategy, questions: Sequence[Sequence[PoolPath]]) -> list[QuestionResult]:
    """Return the strategy's result on each question, with the question's paths in the given order."""
    roots = [Path(None, place, (), "", messages=as_messages("?")) for place in range(len(questions))]
    places = {id(root): place for place, root in enumerate(roots)}
    state = strategy.start(roots)
    waiting: deque[tuple[Extend, int]] = deque()
    taken = [0] * len(questions)
    branches = 0
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
        require(taken[place] < len(questions[place]), "paths", "are more than the pool has", "use fewer")
        recorded = questions[place][taken[place]]
        taken[place] += 1
        path = Path(action.path, branch, (), text="?", stop_reason=StopReason.END)
        answer = None if recorded.vote is None else Answer(recorded.vote)
        strategy.tell(state, Finished(place, action, branch, path, answer, ()))
    decisions = strategy.finish(state)
    if any(decision.degraded for decision in decisions):  # it needs tokens, steps or log-probabilities
        raise _needs_model(strategy)
    return [
        _result(None if decision.answer is None else decision.answer.value, paths, count)
        for decision, paths, count in zip(decisions, questions, taken, strict=True)
    ]


def _needs_model(strategy: AnyStrategy) -> ConfigError:
    return ConfigError(
        "strategy",
        f"{strategy.name} reads more of paths than their answers",
        "choose one that samples from the prompt and counts answers (adaptive-path-consistency: ties=0)",
    )


def _result(answer: str | None, paths: Sequence[PoolPath], taken: int) -> QuestionResult:
    right = any(path.right and path.vote == answer for path in paths)
    return QuestionResult(float(right), float(sum(path.tokens for path in paths[:taken])), float(taken))


def averaged(
    strategies: Mapping[str, AnyStrategy], questions: Sequence[Sequence[PoolPath]], orders: int, seed: int
) -> dict[str, list[QuestionResult]]:
    """Return the mean results by strategy, as `[questions]`; all strategies see the same orders."""
    require(orders >= 1, "orders", f"is {orders}", "use at least 1")
    results: dict[str, list[list[QuestionResult]]] = {name: [] for name in strategies}
    random = Random(seed)
    for _ in range(orders):
        order = [random.sample(paths, len(paths)) for paths in questions]
        for name, strategy in strategies.items():
            results[name].append(replay(strategy, order))
    return {name: [_mean(repeats) for repeats in zip(*runs, strict=True)] for name, runs in results.items()}


def _mean(repeats: Sequence[QuestionResult]) -> QuestionResult:
    return QuestionResult(*(sum(values) / len(repeats) for values in zip(*repeats, strict=True)))


def table(results: Mapping[str, Sequence[QuestionResult]]) -> str:
    """Return the results as a Markdown table; tokens and paths are per question."""
    head = ["strategy", "accuracy, 95%", "to the first", "tokens", "to the first ", "paths"]
    first = next(iter(results.values()))
    rows = []
    for name, own in results.items():
        right = [one.right for one in own]
        tokens = [one.tokens for one in own]
        differences = ["", ""]
        if own is not first:
            base = [one.right for one in first]
            differences = [
                "the same" if right == base else points(difference(right, base)),
                change(ratio(tokens, [one.tokens for one in first])),
            ]
        mean_tokens = f"{sum(tokens) / len(own):,.0f}"
        mean_paths = f"{sum(one.paths for one in own) / len(own):.1f}"
        rows.append([name, share(mean(right)), differences[0], mean_tokens, differences[1], mean_paths])
    return grid(head, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 2 if the pool or an option is invalid."""
    parse = argparse.ArgumentParser(prog="python -m research.orders", description=__doc__)
    parse.add_argument("pool", type=File)
    parse.add_argument(
        "--strategy",
        action="append",
        help="name and options; repeatable (default: strategies that sample from the prompt and count answers)",
    )
    parse.add_argument("--paths", type=int, help="paths of a question (default: all of the pool)")
    parse.add_argument("--skip", type=int, default=0, metavar="K", help="leave out the pool's first K questions")
    parse.add_argument("--limit", type=int, metavar="K", help="at most K questions")
    parse.add_argument("--orders", type=int, default=50, help="random orders of each question's paths (default: 50)")
    parse.add_argument("--seed", type=int, default=0, help="seed of the orders")
    args = parse.parse_args(arguments)
    try:
        questions = pooled(read_results(args.pool), args.skip, args.limit)
        paths = len(questions[0]) if args.paths is None else args.paths
        strategies = {
            name: registry.make_strategy(name, paths, Sampling())
            for name in dict.fromkeys(args.strategy or default_strategies(paths))
        }
        print(table(averaged(strategies, questions, args.orders, args.seed)))
    except BranchwiseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
