"""Batch evaluation: two strategies over a file of questions with known answers."""

import asyncio
import sys
from collections.abc import Sequence

import branchwise as bw
from branchwise.evaluation.dataset import read_rows
from branchwise.evaluation.run import Summary, evaluate


async def main(backend: bw.Backend, file: str) -> Sequence[Summary]:
    """Accuracy and tokens of self-consistency against path-consistency."""
    summaries = await evaluate(
        read_rows(file, limit=4),
        {"self-consistency": bw.SelfConsistency(8), "path-consistency": bw.PathConsistency(8)},
        backend,
        seed=0,
        concurrency=4,
        on_graded=lambda strategy, graded: print(strategy, graded.row.id, graded.correct),
        stop=bw.Stop(),
    )
    for summary in summaries:
        print(f"{summary.strategy}: {summary.accuracy:.0%} right, {summary.usage.sampled} tokens")
    return summaries


if __name__ == "__main__":
    asyncio.run(main(bw.load("Qwen2.5-Coder-0.5B-Instruct"), sys.argv[1]))
