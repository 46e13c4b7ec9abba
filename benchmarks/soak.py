"""Soak test of the engine with many questions at once: `python -m benchmarks.soak DATA`.

It checks that memory stays flat once the pools are full, and that no question waits while later ones are served.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import branchwise as bw
from branchwise.backends.engine.settings import EngineSettings
from branchwise.evaluation.dataset import read_rows

_MAX_GROWTH = 1.03  # of the process's memory between the middle and the end


@dataclass(frozen=True, slots=True)
class Finish:
    """Time and tokens of an answered question."""

    number: int
    seconds: float
    tokens: int


def resident() -> int:
    """Return the resident bytes of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def soak(
    backend: bw.Backend, questions: Sequence[str], paths: int, tokens: int
) -> tuple[list[Finish], list[int]]:
    """Solve all questions at once; return when each was answered, and the resident bytes of every second."""
    began = time.monotonic()
    finished: list[Finish] = []
    memory: list[int] = []
    strategy = bw.SelfConsistency(paths, bw.Sampling(max_tokens=tokens))

    async def answer(number: int, question: str) -> None:
        result = await bw.solve(question, backend, strategy=strategy, seed=number)
        if result.errors or len(result.paths) != paths:
            raise RuntimeError(f"question {number}: {result.outcome.name}, {result.errors}")
        finished.append(Finish(number, time.monotonic() - began, result.usage.sampled))

    async def watch() -> None:
        while True:
            memory.append(resident())
            await asyncio.sleep(1)

    watcher = asyncio.create_task(watch())
    async with asyncio.TaskGroup() as group:
        for number, question in enumerate(questions):
            group.create_task(answer(number, question))
    watcher.cancel()
    return finished, memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak test; return 1 if memory grew or a question starved."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parse.add_argument("data", help="questions: a JSON Lines file, or its name in BRANCHWISE_DATA")
    parse.add_argument("--model", default="SmolLM2-135M-Instruct")
    parse.add_argument("--questions", type=int, default=200)
    parse.add_argument("--paths", type=int, default=8)
    parse.add_argument("--max-tokens", type=int, default=128)
    parse.add_argument("--memory", type=int, default=256 << 20, help="bytes of the KV pool")
    args = parse.parse_args(arguments)
    rows = read_rows(args.data)
    questions = [rows[i % len(rows)].question for i in range(args.questions)]
    backend = bw.load(args.model, settings=EngineSettings(memory=args.memory))
    finished, memory = asyncio.run(soak(backend, questions, args.paths, args.max_tokens))
    growth = memory[-1] / memory[len(memory) // 2]
    # Questions are served in order of arrival, so the order of answers differs by about the number that run at a time.
    late = max(place - finish.number for place, finish in enumerate(sorted(finished, key=lambda f: f.seconds)))
    report = {
        "questions": len(finished),
        "tokens": sum(finish.tokens for finish in finished),
        "seconds": round(max(finish.seconds for finish in finished), 1),
        "resident_mb_middle": memory[len(memory) // 2] >> 20,
        "resident_mb_end": memory[-1] >> 20,
        "growth": round(growth, 3),
        "most_places_late": late,
    }
    print(json.dumps(report, indent=1))
    return 0 if growth <= _MAX_GROWTH and late <= args.questions // 2 else 1


if __name__ == "__main__":
    sys.exit(main())
