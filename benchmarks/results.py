"""The comparison of strategies in docs/results.md: `python -m benchmarks.results OUT`.

Pools of paths are drawn once; strategies that draw from the prompt alone are replayed from them, the others run live on
what the pools hold already. Everything is an ordinary `branchwise eval`, which goes on where it was: stop this at any
time and start it again. Hours on two cores; BRANCHWISE_DATA has the rows.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_tables import tables
from branchwise.evaluation.summary import Summary

SMALL, LARGE = "Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"
LONG = ("gsm8k", "multiarith")
SHORT = (
    "svamp",
    "strategyqa",
    "bbh_tracking_shuffled_objects_three_objects",
    "bbh_logical_deduction_three_objects",
    "bbh_boolean_expressions",
    "bbh_ruin_names",
)
REPLAYED = (
    "self-consistency",
    "adaptive-consistency",
    "adaptive-consistency-dirichlet",
    "esc",
    "blend-asc",
    "weighted-vote",
    "deepconf",
    "deepconf-online",
    "best-of-n",
)
LIVE = (
    "self-consistency",
    "path-consistency-plain",
    "path-consistency",
    "adaptive-path-consistency",
    "prefix-consistency",
    "cisc",
    "adaptive-consistency",
)


@dataclass(frozen=True)
class Rows:
    """Which rows of a file: those that may be tuned on come first, those that are reported after them."""

    data: str
    tuning: int
    reported: int
    paths: int
    model: str = SMALL

    @property
    def name(self) -> str:
        """A name for folders."""
        return self.data if self.model == SMALL else f"{self.data}-1.5b"


ROWS = [
    *(Rows(data, 40, 60, 40) for data in LONG),
    *(Rows(data, 20, 40, 20) for data in SHORT),
    *(Rows(data, 0, 60, 20, LARGE) for data in LONG),
]
_LIVE_ROWS, _LIVE_PATHS = 40, 20


def commands(out: Path) -> Iterator[list[str]]:
    """Every run, in the order in which they need each other."""
    for rows in ROWS:
        yield _eval(rows, ["self-consistency"], rows.paths, 0, rows.tuning + rows.reported, out / f"pool-{rows.name}", [
            "--model", rows.model, "--alternatives", "20", "--concurrency", "2",
        ])  # fmt: skip
        replay = ["--pool", str(out / f"pool-{rows.name}"), "--alternatives", "20"]
        yield _eval(rows, REPLAYED, rows.paths, rows.tuning, rows.reported, out / f"replay-{rows.name}", replay)
    for rows in ROWS:
        if rows.data in LONG and rows.model == SMALL:
            live = ["--pool", str(out / f"pool-{rows.name}"), "--live", "--concurrency", "4"]
            yield _eval(rows, LIVE, _LIVE_PATHS, rows.tuning, _LIVE_ROWS, out / f"live-{rows.name}", live)


def searches(out: Path) -> Iterator[list[str]]:
    """Searches against plain votes: with an exact checker, with tests, and with the model's own judgment."""
    checked = "value=rating,final=verifier,choose=best"
    yield [
        "eval", "game24", "--limit", "30", "--model", LARGE, "--paths", "8", "--budget-tokens", "1200",
        "--verifier", "game24", *_chosen("self-consistency", "best-of-n:value=verifier", f"tot-bfs:{checked}",
        f"tot-bfs:{checked},propose=true", "mcts:final=verifier,choose=best"), "--out", str(out / "game24"),
    ]  # fmt: skip
    yield [
        "eval", "humaneval", "--limit", "20", "--paths", "8", "--max-tokens", "400", "--verifier", "examples",
        *_chosen("self-consistency", "best-of-n:value=verifier"), "--out", str(out / "humaneval"),
    ]  # fmt: skip
    judged = (
        "greedy",
        "self-consistency",
        "path-consistency",
        "best-of-n:value=p-true",
        "beam",
        "dvts",
        "particle",
        "mcts",
    )
    yield [
        "eval", "gsm8k", "--skip", "40", "--limit", "40", "--paths", "8", "--budget-tokens", "2400",
        *_chosen(*judged), "--out", str(out / "search-gsm8k"),
    ]  # fmt: skip


def runs(out: Path) -> Iterator[list[str]]:
    """Everything, in that order."""
    yield from commands(out)
    yield from searches(out)


def _done(out: Path, kept: Path) -> Iterator[str]:
    """Each run that came to its end: its command and its tables."""
    for command in runs(out):
        folder = Path(command[-1])
        if (file := folder / "summary.json").is_file():
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{folder.name}.json").write_bytes(file.read_bytes())
            yield shown(folder.name, Summary.model_validate_json(file.read_bytes()))


def shown(name: str, summary: Summary) -> str:
    """A run of that name in Markdown: its command, and what it came to."""
    command = next(command for command in runs(Path("results")) if Path(command[-1]).name == name)
    return f"```\n{shlex.join(['branchwise', *command])}\n```\n\n{tables(summary)}"


def _chosen(*strategies: str) -> list[str]:
    return [word for name in strategies for word in ("--strategy", name)]


def _eval(
    rows: Rows, strategies: Sequence[str], paths: int, skip: int, limit: int, out: Path, options: Sequence[str]
) -> list[str]:
    chosen = _chosen(*strategies)
    limits = ["--paths", str(paths), "--skip", str(skip), "--limit", str(limit)]
    return ["eval", rows.data, *chosen, *limits, *options, "--out", str(out)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything that is not done."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parse.add_argument("out", type=Path, help="a folder for all runs")
    parse.add_argument("--only", default="", help="runs whose folder's name contains this")
    parse.add_argument("--list", action="store_true", help="print the commands and run none")
    parse.add_argument("--tables", type=Path, metavar="FOLDER", help="run none: print what is done as Markdown, and "
                       "keep the summaries there")  # fmt: skip
    args = parse.parse_args(arguments)
    if args.tables is not None:
        print("\n\n".join(_done(args.out, args.tables)))
        return 0
    for command in runs(args.out):
        if args.only not in Path(command[-1]).name:
            continue
        print(shlex.join(["branchwise", *command]), flush=True)
        if not args.list:
            subprocess.run([sys.executable, "-m", "branchwise.cli.main", *command], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
