"""Measure the speedup of speculative decoding: `python -m benchmarks.speculation DATA`.

Every workload runs without drafts and with each kind of drafts, in turn, over the same questions and the same keys.
Speedups are medians of paired ratios of tokens per second while all branches decode.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path as FilePath
from statistics import median

import branchwise as bw
from benchmarks.drafted import Bench, Drafts, Measured, Work
from benchmarks.engine import parse_integers
from benchmarks.machine import cores, describe
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.core.usage import Usage
from branchwise.evaluation.dataset import find_data

CATEGORIES = ("qa", "math_reasoning", "rag", "writing", "coding")
"""Categories of Spec-Bench, some with much text to copy and some with little."""


@dataclass(frozen=True)
class SpeculationRow:
    """One workload with one kind of drafts; the speedup is a median over questions, the rest is over all of them."""

    drafter: str
    workload: str
    branches: int
    finished: int
    budget: str
    temperature: float
    tokens_per_pass: float
    """Tokens of a branch per forward pass; 1 without drafts."""
    acceptance: float
    """Share of the drafted tokens that were accepted."""
    positions_per_pass: float
    """Positions of a branch computed per forward pass; 1 without drafts."""
    drafting: float
    """Share of the time spent in propose() and observe()."""
    speedup: float
    """Tokens per second against the same work without drafts."""


def plan(branches: Sequence[int], spec_bench: bool, draft_model: bool) -> Iterator[tuple[Work, list[Drafts]]]:
    """Yield each workload with the drafts to compare on it."""
    if draft_model:
        by_model = ("draft-model",)
        yield Work("gsm8k", 1, 0, 0.0), [Drafts(by_model), Drafts(by_model, 4), Drafts(by_model, 8)]
        yield Work("gsm8k", 1, 0, 0.7), [Drafts(by_model), Drafts(by_model, 4)]
        return
    siblings = ("siblings",)
    all_drafters = EngineSettings().all_drafters()
    auto = Drafts(all_drafters)
    fixed = [Drafts(siblings, budget) for budget in (4, 8, 32)]
    if 1 in branches:
        for finished in (1, 3, 7):
            yield Work("gsm8k", 1, finished), [auto, *fixed]
        for temperature in (0.0, 1.0):
            yield Work("gsm8k", 1, 3, temperature), [auto]
        yield Work("gsm8k", 1), [auto, *(Drafts((name,)) for name in all_drafters)]
        yield Work("gsm8k", 1, 0, 0.0), [Drafts(("layer-skip",)), Drafts(("layer-skip",), 4)]
    if 4 in branches:
        yield Work("gsm8k", 4, 1), [auto, *fixed[:2]]
    for count in branches:
        if count > 4:
            yield Work("gsm8k", count), [auto, Drafts(siblings, 4)]
    for category in CATEGORIES if spec_bench else ():
        yield Work(category, 1), [auto, Drafts(("lookup",), 8)]


def summarize(work: Work, drafts: Drafts, runs: Sequence[Measured], off: Sequence[Measured]) -> SpeculationRow:
    """Return the row of `runs`, paired with the runs `off` without drafts."""
    total = sum((run.usage for run in runs), Usage())
    passes = total.sampled - total.accepted  # each pass of a branch samples one token beyond its accepted drafts
    return SpeculationRow(
        drafter=drafts.name,
        workload=work.workload,
        branches=work.branches,
        finished=work.finished,
        budget="auto" if drafts.budget is None else str(drafts.budget),
        temperature=work.temperature,
        tokens_per_pass=total.sampled / passes,
        acceptance=total.accepted / total.drafted if total.drafted else 0.0,
        positions_per_pass=(passes + total.drafted) / passes,
        drafting=sum(run.drafting for run in runs) / sum(run.seconds for run in runs),
        speedup=median(run.speed / plain.speed for run, plain in zip(runs, off, strict=True)),
    )


def line(row: SpeculationRow) -> str:
    """Return a row as a line for the terminal."""
    return (
        f"{row.workload:15} {row.branches:3d} branches, {row.finished} finished, T {row.temperature:.1f}  "
        f"{row.drafter:22} {row.budget:>4}  {row.tokens_per_pass:5.2f} tokens/pass  {row.acceptance:6.1%} accepted  "
        f"{row.positions_per_pass:5.1f} positions/pass  {row.drafting:6.2%} drafting  {row.speedup:5.2f}x"
    )


def questions(file: FilePath, category: str | None, count: int) -> list[str]:
    """Return the first `count` questions of a file, or of one category in it."""
    rows = (json.loads(row) for row in file.read_text(encoding="utf-8").splitlines())
    return [row["question"] for row in islice((r for r in rows if category in (None, r.get("category"))), count)]


async def run(args: argparse.Namespace, engine: Engine, on_row: Callable[[SpeculationRow], None]) -> None:
    """Measure every workload and call `on_row` for each kind of drafts."""
    bench = Bench(engine, args.new_tokens, args.sibling_tokens)
    for work, kinds in plan(args.branches, args.spec_bench is not None, args.draft_model is not None):
        if work.workload == "gsm8k":
            selected = questions(args.data, None, args.questions)
        else:
            selected = questions(args.spec_bench, work.workload, args.questions)
        runs: dict[Drafts, list[Measured]] = {drafts: [] for drafts in (Drafts(), *kinds)}
        await bench.warm_up(selected[0], work)
        for question in selected:
            for drafts, measurements in runs.items():
                measurements.append(await bench.measure(question, work, drafts))
        for drafts in kinds:
            on_row(summarize(work, drafts, runs[drafts], runs[Drafts()]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write JSON; return 0."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks.speculation", description=__doc__)
    add = parse.add_argument
    add("data", type=find_data, help="GSM8K in JSON Lines: a path, or a name in BRANCHWISE_DATA")
    add("--spec-bench", type=find_data, help="Spec-Bench in JSON Lines, likewise (default: not measured)")
    add("--model", default="Qwen2.5-Coder-0.5B-Instruct")
    add("--draft-model", help="measure only the drafts of this model")
    add("--branches", type=parse_integers, default=(1, 4, 16, 64), metavar="N,...")
    add("--questions", type=int, default=2, help="questions of each workload")
    add("--new-tokens", type=int, default=96)
    add("--sibling-tokens", type=int, default=256)
    add("--dtype", help="dtype of the model (default: its own where the processor computes it fast, else float32)")
    add("--out", type=FilePath, default=FilePath("build/bench/speculation.json"))
    args = parse.parse_args(arguments)
    engine = bw.load(args.model, settings=EngineSettings(draft_model=args.draft_model, dtype=args.dtype))
    assert isinstance(engine, Engine)
    conditions = {
        "model": args.model,
        "draft_model": args.draft_model,
        "dtype": str(engine.dtype).removeprefix("torch."),
        "machine": describe(cores())._asdict(),
        "questions": args.questions,
        "new_tokens": args.new_tokens,
    }
    rows: list[SpeculationRow] = []
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def on_row(row: SpeculationRow) -> None:
        """Write all rows so far, so that an interrupted run keeps them."""
        rows.append(row)
        print(line(row), flush=True)
        args.out.write_text(json.dumps({**conditions, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")

    asyncio.run(run(args, engine, on_row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
