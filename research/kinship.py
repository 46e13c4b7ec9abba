"""Value of a continued path's vote: `python -m research.kinship POOL RUN...`.

A path that continues a prefix of another path saves the tokens of the prefix, and its answer correlates with the
parent's. POOL is an evaluation whose paths all start at the prompt. RUNs are evaluations of the same questions with
strategies that continue prefixes. The table groups continued paths by the share of the parent that they keep. It shows
the rate of the parent's answer among them and among fresh paths of the pool, and the value of their votes in fresh
votes. A continued path is worth its tokens where this value exceeds the share of its tokens that had to be sampled.
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


class ContinuedPath(NamedTuple):
    """A path that continues a prefix of its parent."""

    kept: float
    """Share of the parent's tokens that it keeps."""
    same: bool
    """True if it states its parent's answer."""
    fresh: float
    """Share of the other paths from the prompt that state it."""


class KinshipRow(NamedTuple):
    """Means over continued paths that keep a similar share of their parents."""

    paths: int
    kept: float
    same: float
    fresh: float

    @property
    def correlation(self) -> float:
        """Intraclass correlation: agreement beyond that of fresh paths, as a share of its maximum; at least -1."""
        return max(-1.0, (self.same - self.fresh) / (1 - self.fresh)) if self.fresh < 1 else 0.0

    @property
    def vote_value(self) -> float:
        """Value beside the parent's vote: two votes with correlation r are worth 2 / (1 + r) fresh ones."""
        return 2 / (1 + self.correlation) - 1 if self.correlation > -1 else math.inf


def continued(pool: Sequence[Answered], runs: Sequence[Answered]) -> Iterator[ContinuedPath]:
    """Yield the paths of `runs` that continue others, each text of a question once."""
    pool_votes = {(one.data, one.id): [path.vote for path in one.paths] for one in pool}
    seen: set[tuple[str, str, str]] = set()
    for one in runs:
        by_branch = {path.branch: path for path in one.paths}
        votes = pool_votes.get((one.data, one.id), [])
        for path in one.paths:
            parent = None if path.parent is None else by_branch.get(path.parent)
            if parent is None or (one.data, one.id, path.text) in seen:
                continue
            seen.add((one.data, one.id, path.text))
            parent_votes = 1 if parent.parent is None else 0  # a parent from the prompt is one of the pool's paths
            fresh = len(votes) - parent_votes
            if fresh > 0:
                agreeing = max(0, votes.count(parent.vote) - parent_votes)
                yield ContinuedPath(
                    kept=path.prefix_tokens / parent.tokens,
                    same=path.vote == parent.vote,
                    fresh=agreeing / fresh,
                )


def kinship(paths: Sequence[ContinuedPath]) -> Mapping[int, KinshipRow]:
    """Return the means by the tenth of the parent that was kept."""
    tenths: dict[int, list[ContinuedPath]] = {}
    for one in paths:
        tenths.setdefault(min(_TENTHS - 1, int(one.kept * _TENTHS)), []).append(one)
    return {tenth: _mean(tenths[tenth]) for tenth in sorted(tenths)}


def _mean(paths: Sequence[ContinuedPath]) -> KinshipRow:
    kept, same, fresh = (sum(values) / len(paths) for values in zip(*paths, strict=True))
    return KinshipRow(len(paths), kept, same, fresh)


def table(rows: Mapping[int, KinshipRow]) -> str:
    """Return the rows as a Markdown table."""
    head = ["kept of the parent", "paths", "its parent's answer", "a fresh path's", "its vote", "its tokens"]
    lines = (
        [
            f"{row.kept:.0%}",
            f"{row.paths}",
            f"{row.same:.0%}",
            f"{row.fresh:.0%}",
            f"{row.vote_value:.2f}",
            f"{1 - row.kept:.2f}",
        ]
        for row in rows.values()
    )
    return grid(head, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 2 if a folder holds no run."""
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
