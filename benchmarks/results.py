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
REPLAYED = (
    "self-consistency",
    "adaptive-consistency",
    "adaptive-consistency-dirichlet",
    "esc",
    "blend-asc",
    "weighted-vote",
    "best-of-n",
)
READING_ALTERNATIVES = ("deepconf", "deepconf-online")
LIVE = (
    "self-consistency",
    "path-consistency-plain",
    "path-consistency",
    "adaptive-path-consistency",
    "prefix-consistency",
    "cisc",
    "adaptive-consistency",
)
OURS = "adaptive-path-consistency"
ABLATION = (
    "self-consistency",
    "adaptive-consistency",
    OURS,
    f"{OURS}:stop_at=none",
    f"{OURS}:stop_at=0.9",
    f"{OURS}:horizon=false",
    f"{OURS}:max_level=0",
    f"{OURS}:ties=0",
    f"{OURS}:max_level=0,ties=0",
    f"{OURS}:root_share=0.8",
)
"""Our own strategy beside what it must beat, and with each of its parts off or set otherwise."""


@dataclass(frozen=True)
class Rows:
    """Which rows of a file: those that may be tuned on come first, those that are reported after them."""

    data: str
    tuning: int
    reported: int
    paths: int
    model: str = SMALL
    alternatives: int = 0
    """Recorded with each token."""

    @property
    def name(self) -> str:
        """A name for folders."""
        return self.data if self.model == SMALL else f"{self.data}-1.5b"

    def pooled(self) -> tuple[int, int]:
        """The rows whose paths are recorded: how many are left out before them, and how many they are."""
        return (0, self.tuning + self.reported) if self.model == SMALL else (self.tuning, self.reported)


WORD_PROBLEMS = (
    Rows("gsm8k", 50, 100, 40, alternatives=20),
    Rows("multiarith", 50, 100, 40),
    Rows("svamp", 20, 80, 40),
    Rows("gsm8k", 50, 60, 40, LARGE),
    Rows("multiarith", 50, 60, 40, LARGE),
    Rows("svamp", 20, 60, 40, LARGE),
)
OTHERS = tuple(
    Rows(data, 20, 60, 20)
    for data in (
        "strategyqa",
        "bbh_tracking_shuffled_objects_three_objects",
        "bbh_logical_deduction_three_objects",
        "bbh_boolean_expressions",
        "bbh_ruin_names",
    )
)
TWENTY = WORD_PROBLEMS[:2]
"""What is compared live with at most 20 paths, on fewer rows."""
_TWENTY_ROWS = 60


def pools(out: Path) -> Iterator[list[str]]:
    """Paths drawn once."""
    for rows in (*WORD_PROBLEMS, *OTHERS):
        skip, limit = rows.pooled()
        options = ["--model", rows.model, "--speculation", "off", "--concurrency", "8"]
        if rows.alternatives:
            options += ["--alternatives", str(rows.alternatives)]
        yield _eval(rows, ["self-consistency"], rows.paths, skip, limit, out / f"pool-{rows.name}", options)


def replays(out: Path) -> Iterator[list[str]]:
    """Strategies that draw from the prompt alone, answered from the pools."""
    for rows in (*WORD_PROBLEMS, *OTHERS):
        pool = _pool(out, rows)
        yield _eval(rows, REPLAYED, rows.paths, rows.tuning, rows.reported, out / f"replay-{rows.name}", pool)
        if rows.alternatives:
            reading = ["self-consistency", *READING_ALTERNATIVES]
            options = [*pool, "--alternatives", str(rows.alternatives)]
            yield _eval(rows, reading, rows.paths, rows.tuning, rows.reported, out / f"deepconf-{rows.name}", options)


def lives(out: Path) -> Iterator[list[str]]:
    """Strategies that go on from what was drawn: on the pools, and with the model for what they lack."""
    for rows in TWENTY:
        yield _eval(rows, LIVE, 20, rows.tuning, _TWENTY_ROWS, out / f"live-{rows.name}", _live(out, rows))
    for rows in WORD_PROBLEMS:
        live = _live(out, rows)
        yield _eval(rows, ABLATION, rows.paths, rows.tuning, rows.reported, out / f"adaptive-{rows.name}", live)
        if rows.model == SMALL:
            yield _eval(rows, ABLATION, rows.paths, 0, rows.tuning, out / f"tuning-{rows.name}", live)


def _pool(out: Path, rows: Rows) -> list[str]:
    return ["--pool", str(out / f"pool-{rows.name}")]


def _live(out: Path, rows: Rows) -> list[str]:
    return [*_pool(out, rows), "--live", "--speculation", "off", "--concurrency", "16"]


def searches(out: Path) -> Iterator[list[str]]:
    """Searches against plain votes: with an exact checker, with tests, and with the model's own judgment."""
    checked = "value=rating,final=verifier,choose=best"
    yield [
        "eval", "game24", "--limit", "30", "--model", LARGE, "--paths", "8", "--budget-tokens", "1200",
        "--concurrency", "8",
        "--verifier", "game24", *_chosen("self-consistency", "best-of-n:value=verifier", f"tot-bfs:{checked}",
        f"tot-bfs:{checked},propose=true", "mcts:final=verifier,choose=best"), "--out", str(out / "game24"),
    ]  # fmt: skip
    yield [
        "eval", "humaneval", "--limit", "20", "--paths", "8", "--max-tokens", "400", "--verifier", "examples",
        "--speculation", "off", "--concurrency", "8",
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
        "eval", "gsm8k", "--skip", "50", "--limit", "40", "--paths", "8", "--budget-tokens", "2400",
        "--concurrency", "8",
        *_chosen(*judged), "--out", str(out / "search-gsm8k"),
    ]  # fmt: skip


def runs(out: Path) -> Iterator[list[str]]:
    """Everything, in that order."""
    for some in (pools, replays, lives, searches):
        yield from some(out)


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
