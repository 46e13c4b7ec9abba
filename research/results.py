"""Run the comparison of strategies in docs/results.md: `python -m research.results OUT`.

Pools of paths are sampled once. Strategies that sample only from the prompt are replayed from them; the others run live
and take the pool's paths where they can. Every run is a `branchwise eval`, so an interrupted comparison continues where
it stopped. It takes hours on two cores. The data sets are files in the folder BRANCHWISE_DATA.
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

SMALL = "Qwen2.5-Coder-0.5B-Instruct"
LARGE = "Qwen2.5-Coder-1.5B-Instruct"
DEEPCONF = ("deepconf", "deepconf-online")
"""Strategies that read the alternatives at each token."""
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
"""Strategies that continue paths, beside self-consistency; for the large model."""
PREFIXED = (
    "self-consistency",
    *(f"path-consistency-plain:{options}" for options in ("window=5,max_level=3", "window=2,max_level=8")),
    *(
        f"path-consistency:{options}"
        for options in ("window=5,max_level=3", "window=3,max_level=6", "window=2,max_level=8")
    ),
)
"""Path-consistency with other depths of prefixes (max_level) and sizes of window."""
DEFAULT = "adaptive-path-consistency"
ABLATION = (
    "self-consistency",
    "self-consistency:paths=20",
    "adaptive-consistency",
    "adaptive-consistency:stop_at=0.9",
    "adaptive-consistency:stop_at=0.8",
    DEFAULT,
    f"{DEFAULT}:stop_at=0.98",
    f"{DEFAULT}:stop_at=none",
    f"{DEFAULT}:stakes=false",
    f"{DEFAULT}:stakes=false,horizon=false",
    f"{DEFAULT}:ties=0",
    f"{DEFAULT}:max_level=3",
)
"""The default strategy and its baselines at several thresholds, then with each of its parts switched."""


@dataclass(frozen=True)
class Rows:
    """Rows of a data set and their model: first those for tuning, then the reported ones."""

    data: str
    tuning: int
    reported: int
    paths: int
    model: str = SMALL
    alternatives: int = 0
    """Alternative tokens recorded at each token."""

    @property
    def name(self) -> str:
        """Suffix of the folders of runs."""
        return self.data if self.model == SMALL else f"{self.data}-1.5b"

    def pooled(self) -> tuple[int, int]:
        """Return `--skip` and `--limit` of the rows whose paths are pooled."""
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
"""Data sets on which the default strategy is tuned and its parts are switched, with the small model."""
DEFAULT_ON = (*TUNED_ON, "svamp")
_LIVE_ROWS = 40
_LIVE_PATHS = 20


def replayed(paths: int) -> tuple[str, ...]:
    """Return the strategies that sample only from the prompt, at most `paths` paths per question."""
    return (
        "self-consistency",
        *(f"self-consistency:paths={fewer}" for fewer in (5, 10, 20) if fewer < paths),
        "adaptive-consistency",
        "adaptive-consistency-dirichlet",
        "esc",
        f"blend-asc:paths=10,most={paths}",
        "weighted-vote",
        "best-of-n",
        f"{DEFAULT}:ties=0",
    )


def votes(out: Path) -> Iterator[list[str]]:
    """Yield the commands of each data set: the pool, the replayed strategies, then the live ones."""
    for rows in ROWS:
        pool = out / f"pool-{rows.name}"
        alternatives = ["--alternatives", str(rows.alternatives)] if rows.alternatives else []
        sampling = ["--model", rows.model, "--speculation", "off", *alternatives]
        yield _eval(rows, ["self-consistency"], rows.paths, rows.pooled(), pool, sampling)
        reported = (rows.tuning, rows.reported)
        replay = ["--pool", str(pool)]
        yield _eval(rows, replayed(rows.paths), rows.paths, reported, out / f"replay-{rows.name}", replay)
        if alternatives:
            strategies = ["self-consistency", *DEEPCONF]
            folder = out / f"deepconf-{rows.name}"
            yield _eval(rows, strategies, rows.paths, reported, folder, [*replay, *alternatives])
        yield from _live(rows, out, [*replay, "--live", "--concurrency", "8"])


def _live(rows: Rows, out: Path, live: Sequence[str]) -> Iterator[list[str]]:
    """Yield the commands with options `live`, which continue the pool's paths with the model."""
    reported = (rows.tuning, rows.reported)
    tuned = rows.data in TUNED_ON and rows.model == SMALL
    if rows.data in TUNED_ON:
        strategies = LIVE if tuned else CONTINUED
        yield _eval(rows, strategies, _LIVE_PATHS, (rows.tuning, _LIVE_ROWS), out / f"live-{rows.name}", live)
    if tuned:
        tuning = (0, rows.tuning)
        folder = out / f"tuning-prefixes-{rows.name}"
        yield _eval(rows, PREFIXED, _LIVE_PATHS, tuning, folder, [*live, "--speculation", "off"])
        yield _eval(rows, ABLATION, rows.paths, tuning, out / f"tuning-{rows.name}", live)
    if rows.data in DEFAULT_ON:
        compared = ABLATION if tuned else ("self-consistency", "adaptive-consistency", DEFAULT)
        yield _eval(rows, compared, rows.paths, reported, out / f"adaptive-{rows.name}", live)


def searches(out: Path) -> Iterator[list[str]]:
    """Yield the commands of searches against plain votes: with verifiers, and with the model's own judgment."""
    game24 = f"game24 --limit 30 --model {LARGE} --paths 64 --budget-tokens 1200 --concurrency 8 --verifier game24"
    solvers = (
        "self-consistency",
        "best-of-n:value=verifier",
        "tot-bfs:paths=20,keep=5,value=rating,final=verifier,choose=best",
        "mcts:width=4,final=verifier,choose=best",
    )
    yield ["eval", *game24.split(), *_strategies(*solvers), "--out", str(out / "game24")]
    humaneval = "humaneval --limit 20 --paths 8 --max-tokens 400 --verifier examples --speculation off --concurrency 8"
    programs = ("self-consistency", "best-of-n:value=verifier")
    yield ["eval", *humaneval.split(), *_strategies(*programs), "--out", str(out / "humaneval")]
    gsm8k = "gsm8k --skip 40 --limit 40 --paths 8 --budget-tokens 2400 --concurrency 8"
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
    yield ["eval", *gsm8k.split(), *_strategies(*judged), "--out", str(out / "search-gsm8k")]


def runs(out: Path) -> Iterator[list[str]]:
    """Yield all commands in order."""
    yield from searches(out)
    yield from votes(out)


def _done(out: Path, kept: Path) -> Iterator[str]:
    """Copy the summary of each finished run to `kept` and yield its command and tables."""
    for command in runs(out):
        folder = Path(command[-1])
        if (file := folder / "summary.json").is_file():
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{folder.name}.json").write_bytes(file.read_bytes())
            yield markdown(folder.name, Summary.model_validate_json(file.read_bytes()))


def markdown(name: str, summary: Summary) -> str:
    """Return the command and the tables of run `name` in Markdown."""
    command = next(command for command in runs(Path("results")) if Path(command[-1]).name == name)
    return f"```\n{shlex.join(['branchwise', *command])}\n```\n\n{tables(summary)}"


def _strategies(*strategies: str) -> list[str]:
    return [word for name in strategies for word in ("--strategy", name)]


def _eval(
    rows: Rows, strategies: Sequence[str], paths: int, selected: tuple[int, int], out: Path, options: Sequence[str]
) -> list[str]:
    """Return the command of an evaluation of the rows `selected` by `--skip` and `--limit`."""
    skip, limit = selected
    limits = ["--paths", str(paths), "--skip", str(skip), "--limit", str(limit)]
    return ["eval", rows.data, *_strategies(*strategies), *limits, *options, "--out", str(out)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all commands, or list them or print their tables; return 0."""
    parse = argparse.ArgumentParser(prog="python -m research.results", description=__doc__)
    parse.add_argument("out", type=Path, help="a folder for all runs")
    parse.add_argument("--only", default="*", help="only runs whose names match this pattern, such as 'pool-*'")
    parse.add_argument("--list", action="store_true", help="print the commands without running them")
    parse.add_argument(
        "--tables",
        type=Path,
        metavar="FOLDER",
        help="print finished runs as Markdown and copy their summaries to FOLDER",
    )
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
