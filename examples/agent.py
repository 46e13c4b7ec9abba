"""Inside an agent's async loop: several tools think at once, with a deadline, on one engine."""

import asyncio
from collections.abc import Sequence

import branchwise as bw

QUESTIONS = ("What is 17 * 23?", "A train covers 120 km in 1.5 hours. What is its speed in km/h?")


async def think(question: str, backend: bw.Backend) -> str:
    """A tool an agent can call: an answer and how far to trust it, within a minute."""
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
    """Both questions share the engine's batches."""
    answers = await asyncio.gather(*(think(question, backend) for question in QUESTIONS))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(f"{question}\n  {answer}")
    return answers


if __name__ == "__main__":
    asyncio.run(main(bw.load("Qwen2.5-Coder-0.5B-Instruct")))
