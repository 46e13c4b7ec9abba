"""The comparison of strategies in docs/results.md: `python -m research.results OUT`.

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
from fnmatch import fnmatch
from pathlib import Path

from branchwise.evaluation.report.summary import Summary
from research.tables import tables

SMALL, LARGE = "Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"
DEEPCONF = ("deepconf", "deepconf-online")
"""These read the alternatives at each token."""
LIVE = (
    "self-consistency",
    "path-consistency-plain",
    "path-consistency",
    "adaptive-path-consistency",
    "adaptive-path-consistency:ties=0",
    "prefix-consistency",
    "cisc",
    "adaptive-consistency",
)
CONTINUED = ("self-consistency", "path-consistency", "path-consistency-plain", "prefix-consistency")
"""Those of them that continue paths, for the large model."""
PREFIXED = (
    "self-consistency",
    *(f"path-consistency-plain:{grown}" for grown in ("window=5,max_level=3", "window=2,max_level=8")),
    *(
        f"path-consistency:{grown}"
        for grown in ("window=5,max_level=3", "window=3,max_level=6", "window=2,max_level=8")
    ),
)
"""How deep prefixes may grow, and how soon."""
OURS = "adaptive-path-consistency"
ABLATION = (
    "self-consistency",
    "self-consistency:paths=20",
    "adaptive-consistency",
    "adaptive-consistency:stop_at=0.9",
    "adaptive-consistency:stop_at=0.8",
    OURS,
    f"{OURS}:stop_at=0.98",
    f"{OURS}:stop_at=none",
    f"{OURS}:stakes=false",
    f"{OURS}:stakes=false,horizon=false",
    f"{OURS}:ties=0",
    f"{OURS}:max_level=3",
)
"""Our own strategy beside what it must beat, at other certainties too, and with each of its parts switched."""


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


ROWS = (
    Rows("multiarith", 40, 60, 40),
    Rows("gsm8k", 40, 60, 40, alternatives=20),
    Rows("svamp", 20, 40, 40),
    Rows("multiarith", 40, 60, 40, LARGE),
    Rows("gsm8k", 40, 60, 40, LARGE),
    Rows("svamp", 20, 40, 40, LARGE),
    Rows("strategyqa", 20, 40, 20),
    Rows("bbh_tracking_shuffled_objects_three_objects", 20, 40, 20),
    Rows("bbh_logical_deduction_three_objects", 20, 40, 20),
    Rows("bbh_boolean_expressions", 20, 40, 20),
    Rows("bbh_ruin_names", 20, 40, 20),
)
TUNED_ON = ("multiarith", "gsm8k")
"""What our own strategy is tuned on, and where its parts are switched off; with the small model."""
OURS_ON = (*TUNED_ON, "svamp")
_LIVE_ROWS, _LIVE_PATHS = 40, 20


def replayed(paths: int) -> tuple[str, ...]:
    """The strategies that draw from the prompt alone, at most so many paths of a question."""
    return (
        "self-consistency",
        *(f"self-consistency:paths={fewer}" for fewer in (5, 10, 20) if fewer < paths),
        "adaptive-consistency",
        "adaptive-consistency-dirichlet",
        "esc",
        f"blend-asc:paths=10,most={paths}",
        "weighted-vote",
        "best-of-n",
        f"{OURS}:ties=0",
    )


def votes(out: Path) -> Iterator[list[str]]:
    """File by file: paths drawn once; strategies that draw from the prompt alone, answered from them; strategies that
    go on from what was drawn, with the model for what is not there."""
    for rows in ROWS:
        skip, limit = rows.pooled()
        options = ["--model", rows.model, "--speculation", "off"]
        if rows.alternatives:
            options += ["--alternatives", str(rows.alternatives)]
        yield _eval(rows, ["self-consistency"], rows.paths, skip, limit, out / f"pool-{rows.name}", options)
        pool, report = ["--pool", str(out / f"pool-{rows.name}")], (rows.tuning, rows.reported)
        yield _eval(rows, replayed(rows.paths), rows.paths, *report, out / f"replay-{rows.name}", pool)
        if rows.alternatives:
            reading, options = ["self-consistency", *DEEPCONF], [*pool, "--alternatives", str(rows.alternatives)]
            yield _eval(rows, reading, rows.paths, *report, out / f"deepconf-{rows.name}", options)
        pool, tuned = [*pool, "--live", "--concurrency", "8"], rows.data in TUNED_ON and rows.model == SMALL
        if rows.data in TUNED_ON:
            live = LIVE if tuned else CONTINUED
            yield _eval(rows, live, _LIVE_PATHS, rows.tuning, _LIVE_ROWS, out / f"live-{rows.name}", pool)
        if tuned:
            prefixed, plain = out / f"tuning-prefixes-{rows.name}", [*pool, "--speculation", "off"]
            yield _eval(rows, PREFIXED, _LIVE_PATHS, 0, rows.tuning, prefixed, plain)
            yield _eval(rows, ABLATION, rows.paths, 0, rows.tuning, out / f"tuning-{rows.name}", pool)
        if rows.data in OURS_ON:
            shown = ABLATION if tuned else ("self-consistency", "adaptive-consistency", OURS)
            yield _eval(rows, shown, rows.paths, *report, out / f"adaptive-{rows.name}", pool)


def searches(out: Path) -> Iterator[list[str]]:
    """Searches against plain votes: with an exact checker, with tests, and with the model's own judgment."""
    checked = "value=rating,final=verifier,choose=best"
    yield [
        "eval", "game24", "--limit", "30", "--model", LARGE, "--paths", "64", "--budget-tokens", "1200",
        "--concurrency", "8", "--verifier", "game24",
        *_chosen(
            "self-consistency", "best-of-n:value=verifier", f"tot-bfs:paths=20,keep=5,{checked}",
            "mcts:width=4,final=verifier,choose=best",
        ), "--out", str(out / "game24"),
    ]  # fmt: skip
    yield [
        "eval", "humaneval", "--limit", "20", "--paths", "8", "--max-tokens", "400", "--verifier", "examples",
        "--speculation", "off", "--concurrency", "8",
        *_chosen("self-consistency", "best-of-n:value=verifier"), "--out", str(out / "humaneval"),
    ]  # fmt: skip
    judged = (
        "self-consistency",
        "greedy",
        "path-consistency:window=5,max_level=3",
        "best-of-n:value=p-true",
        "beam",
        "dvts",
        "particle",
        "mcts",
    )
    yield [
        "eval", "gsm8k", "--skip", "40", "--limit", "40", "--paths", "8", "--budget-tokens", "2400",
        "--concurrency", "8",
        *_chosen(*judged), "--out", str(out / "search-gsm8k"),
    ]  # fmt: skip


def runs(out: Path) -> Iterator[list[str]]:
    """Everything, in that order."""
    yield from searches(out)
    yield from votes(out)


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
    parse = argparse.ArgumentParser(prog="python -m research.results", description=__doc__)
    parse.add_argument("out", type=Path, help="a folder for all runs")
    parse.add_argument("--only", default="*", help="runs of that name, or of names like it: 'pool-*'")
    parse.add_argument("--list", action="store_true", help="print the commands and run none")
    parse.add_argument("--tables", type=Path, metavar="FOLDER", help="run none: print what is done as Markdown, and "
                       "keep the summaries there")  # fmt: skip
    args = parse.parse_args(arguments)
    if args.tables is not None:
        print("\n\n".join(_done(args.out, args.tables)))
        return 0
    for command in runs(args.out):
        if not fnmatch(Path(command[-1]).name, args.only):
            continue
        print(shlex.join(["branchwise", *command]), flush=True)
        if not args.list:
            subprocess.run([sys.executable, "-m", "branchwise.cli.main", *command], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
