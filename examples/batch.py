"""Batch evaluation: two strategies over a file of questions with known answers."""

import asyncio
import sys

import branchwise as bw
from branchwise import evaluation


async def main(backend: bw.Backend, file: str) -> evaluation.DataSummary:
    """Compare accuracy and sampled tokens of self-consistency and path-consistency."""
    rows = evaluation.read_rows(file, limit=4)
    answered: list[evaluation.Answered] = []
    plan = evaluation.Plan(
        "rows", rows, {"self-consistency": bw.SelfConsistency(8), "path-consistency": bw.PathConsistency(8)}
    )
    await evaluation.evaluate(plan, lambda strategy: backend, answered.append, bw.Stop())
    summary = evaluation.summarize("rows", answered, list(plan.strategies))
    for one in summary.strategies:
        right, low, high = (f"{share:.0%}" for share in one.accuracy)
        print(f"{one.strategy}: {right} right ({low} to {high}), {one.sampled} tokens")
    return summary


if __name__ == "__main__":
    asyncio.run(main(bw.load("Qwen2.5-Coder-0.5B-Instruct"), sys.argv[1]))
