"""What a continued path is worth as a vote: `python -m research.kinship POOL RUN...`.

A path that continues the beginning of another saves the tokens of that beginning, and tends to the other's answer.
POOL is an evaluation whose paths all start at the prompt; RUNs are evaluations of the same questions with strategies
that continue prefixes. By the share of its parent that a path kept: how often it gives its parent's answer, how often
a fresh path of the pool does, and from both what its vote adds to its parent's, in fresh votes. It is worth its tokens
where that is more than the share of them that had to be drawn.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from branchwise.core.errors import BranchwiseError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.results import read_results
from research.tables import grid

_TENTHS = 10


class Kin(NamedTuple):
    """A path that continues another."""

    kept: float
    """Share of its parent's tokens that it begins with."""
    same: bool
    """Whether it gives its parent's answer."""
    fresh: float
    """Share of other paths from the prompt that do."""


class Kinship(NamedTuple):
    """Continued paths that kept about as much."""

    paths: int
    kept: float
    same: float
    fresh: float

    @property
    def correlation(self) -> float:
        """Intraclass: the agreement beyond that of fresh paths, as a share of what there could be; -1 at the least."""
        return max(-1.0, (self.same - self.fresh) / (1 - self.fresh)) if self.fresh < 1 else 0.0

    @property
    def worth(self) -> float:
        """What its vote adds to its parent's: two votes of correlation r say as much as 2 / (1 + r) fresh ones."""
        return 2 / (1 + self.correlation) - 1 if self.correlation > -1 else math.inf


def continued(pool: Sequence[Answered], runs: Sequence[Answered]) -> Iterator[Kin]:
    """The paths of `runs` that continue others; the same text of the same question once."""
    drawn = {(one.data, one.id): [path.vote for path in one.paths] for one in pool}
    seen: set[tuple[str, str, str]] = set()
    for one in runs:
        by_number = {path.branch: path for path in one.paths}
        votes = drawn.get((one.data, one.id), [])
        for path in one.paths:
            parent = None if path.parent is None else by_number.get(path.parent)
            if parent is None or (one.data, one.id, path.text) in seen:
                continue
            seen.add((one.data, one.id, path.text))
            itself = parent.parent is None  # then it is one of the pool's own
            if len(votes) > itself:
                agreeing = max(0, votes.count(parent.vote) - itself)
                yield Kin(
                    path.prefix_tokens / parent.tokens, path.vote == parent.vote, agreeing / (len(votes) - itself)
                )


def kinship(paths: Sequence[Kin]) -> Mapping[int, Kinship]:
    """By the tenth of the parent that was kept."""
    tenths: dict[int, list[Kin]] = {}
    for one in paths:
        tenths.setdefault(min(_TENTHS - 1, int(one.kept * _TENTHS)), []).append(one)
    return {tenth: _mean(tenths[tenth]) for tenth in sorted(tenths)}


def _mean(paths: Sequence[Kin]) -> Kinship:
    kept, same, fresh = (sum(numbers) / len(paths) for numbers in zip(*paths, strict=True))
    return Kinship(len(paths), kept, same, fresh)


def table(rows: Mapping[int, Kinship]) -> str:
    """In Markdown."""
    head = ["kept of the parent", "paths", "its parent's answer", "a fresh path's", "its vote", "its tokens"]
    lines = (
        [
            f"{row.kept:.0%}",
            f"{row.paths}",
            f"{row.same:.0%}",
            f"{row.fresh:.0%}",
            f"{row.worth:.2f}",
            f"{1 - row.kept:.2f}",
        ]
        for row in rows.values()
    )
    return grid(head, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parse = argparse.ArgumentParser(prog="python -m research.kinship", description=__doc__)
    parse.add_argument("pool", type=Path)
    parse.add_argument("runs", type=Path, nargs="+")
    args = parse.parse_args(arguments)
    try:
        runs = [one for folder in args.runs for one in read_results(folder)]
        print(table(kinship(list(continued(read_results(args.pool), runs)))))
    except BranchwiseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
