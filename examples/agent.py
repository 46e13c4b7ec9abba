"""Several tools of an agent call one engine at the same time, each with a deadline."""

import asyncio
from collections.abc import Sequence

import branchwise as bw

QUESTIONS = ("What is 17 * 23?", "A train covers 120 km in 1.5 hours. What is its speed in km/h?")


async def think(question: str, backend: bw.Backend) -> str:
    """Answer a question within a minute, with its confidence and tokens; a tool that an agent can call."""
    result = await bw.solve(
        question,
        backend,
        strategy=bw.PathConsistency(paths=8),
        budget=bw.Budget(seconds=60, tokens=4000),
    )
    if result.answer is None:
        return f"no answer: {result.outcome.value}"
    return f"{result.answer} (confidence {result.confidence:.0%}, {result.usage.sampled} tokens)"


async def main(backend: bw.Backend) -> Sequence[str]:
    """Answer both questions at once, so that they share the engine's batches, and return the answers."""
    answers = await asyncio.gather(*(think(question, backend) for question in QUESTIONS))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(f"{question}\n  {answer}")
    return answers


if __name__ == "__main__":
    asyncio.run(main(bw.load("Qwen2.5-Coder-0.5B-Instruct")))
