"""Compare strategies through vLLM's plugin with plain sampling and a vote at the client, on one `vllm serve`."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import httpx
from pydantic import JsonValue

from benchmarks.servers import Server
from branchwise.answers.groups import AnswerGroups
from branchwise.evaluation.grading import is_correct
from branchwise.evaluation.row import Row
from branchwise.evaluation.statistics import Estimate, difference, mean, ratio

PLAIN = "plain"
"""Name of plain sampling: the client sends `n` and votes."""


@dataclass(frozen=True)
class ComparisonPlan:
    """Strategies and limits of a comparison."""

    strategies: tuple[str, ...]
    paths: int
    max_tokens: int
    temperature: float
    concurrency: int = 1
    """Questions answered at the same time."""


@dataclass(frozen=True)
class QuestionResult:
    """Result of one question with one strategy."""

    row: str
    way: str
    """A strategy, or PLAIN."""
    answer: str | None
    correct: bool
    seconds: float
    prompt: int
    """Input tokens, as the server counts them."""
    sampled: int


@dataclass(frozen=True)
class Comparison:
    """A strategy against plain sampling, over the same questions."""

    way: str
    questions: int
    accuracy: Estimate
    gain: Estimate
    """Paired difference of accuracy."""
    tokens: Estimate
    """Sampled tokens, relative to plain sampling."""
    time: Estimate
    """Seconds, relative to plain sampling."""
    tokens_each: float
    """Mean of the tokens sampled for a question."""
    seconds_each: float
    """Median of the seconds of a question."""


async def compare(
    server: Server, rows: Sequence[Row], plan: ComparisonPlan, on_result: Callable[[QuestionResult], None]
) -> list[QuestionResult]:
    """Answer groups of questions with every strategy in turn and return all results.

    The prefix cache is emptied before each strategy, and the order of strategies is reversed for every other group.
    """
    results: list[QuestionResult] = []
    order = [PLAIN, *plan.strategies]
    async with httpx.AsyncClient(base_url=server.address, timeout=None, trust_env=False) as client:
        for way in order:  # first use, which compiles and loads, is not measured
            await _ask(client, server, rows[0], way, plan, seed=len(rows))
        for turn, start in enumerate(range(0, len(rows), plan.concurrency)):
            group = rows[start : start + plan.concurrency]
            for way in order if turn % 2 == 0 else reversed(order):
                await _empty_prefix_cache(client)
                requests = (_ask(client, server, row, way, plan, start + place) for place, row in enumerate(group))
                for result in await asyncio.gather(*requests):
                    results.append(result)
                    on_result(result)
    return results


def comparisons(results: Sequence[QuestionResult]) -> list[Comparison]:
    """Return one comparison per strategy, plain sampling first."""
    by_way: dict[str, list[QuestionResult]] = {}
    for result in results:
        by_way.setdefault(result.way, []).append(result)
    plain = sorted(by_way[PLAIN], key=lambda one: one.row)
    found = []
    for way, unordered in by_way.items():
        own = sorted(unordered, key=lambda one: one.row)
        correct = [float(one.correct) for one in own]
        baseline = [float(one.correct) for one in plain]
        found.append(
            Comparison(
                way=way,
                questions=len(own),
                accuracy=mean(correct),
                gain=difference(correct, baseline),
                tokens=ratio([one.sampled for one in own], [one.sampled for one in plain]),
                time=ratio([one.seconds for one in own], [one.seconds for one in plain]),
                tokens_each=sum(one.sampled for one in own) / len(own),
                seconds_each=median(one.seconds for one in own),
            )
        )
    return sorted(found, key=lambda one: one.way != PLAIN)


def table(found: Sequence[Comparison]) -> str:
    """Return the comparisons as a Markdown table."""
    head = [
        "| way | accuracy | against plain | tokens a question | x plain | seconds a question | x plain |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_line, found)])


def _line(one: Comparison) -> str:
    return (
        f"| {one.way} | {_estimate(one.accuracy, '.2f')} | {_estimate(one.gain, '+.2f')} | {one.tokens_each:.0f} "
        f"| {_estimate(one.tokens, '.2f')} | {one.seconds_each:.1f} | {_estimate(one.time, '.2f')} |"
    )


def _estimate(estimate: Estimate, digits: str) -> str:
    value, low, high = (format(bound, digits) for bound in estimate)
    return f"{value} [{low}, {high}]"


async def _ask(
    client: httpx.AsyncClient, server: Server, row: Row, way: str, plan: ComparisonPlan, seed: int
) -> QuestionResult:
    """Send the question, with the same messages for every strategy.

    Raises RuntimeError for any failure, which would otherwise count as a wrong answer.
    """
    task = row.task
    turns = task.render(row.question).turns
    body: dict[str, JsonValue] = {
        "model": server.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "max_tokens": plan.max_tokens,
        "temperature": plan.temperature,
        "top_p": 1.0,
        "seed": seed,
    }
    if way == PLAIN:
        body["n"] = plan.paths
    else:
        body["branchwise"] = {"strategy": way, "paths": plan.paths, "answers": task.name}
    began = time.monotonic()
    response = await client.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        raise RuntimeError(f"{way}, {row.id}: status {response.status_code}, {response.text[:500]}")
    reply = response.json()
    answer = await _vote(row, reply["choices"]) if way == PLAIN else reply["branchwise"]["answer"]
    seconds = time.monotonic() - began
    if way != PLAIN and reply["branchwise"]["errors"]:
        raise RuntimeError(f"{way}, {row.id}: {reply['branchwise']['errors']}")
    usage = reply["usage"]
    correct = await is_correct(row, answer)
    return QuestionResult(
        row=row.id,
        way=way,
        answer=answer,
        correct=correct,
        seconds=seconds,
        prompt=usage["prompt_tokens"],
        sampled=usage["completion_tokens"],
    )


async def _vote(row: Row, choices: Sequence[dict[str, JsonValue]]) -> str | None:
    """Return the most frequent answer, the first of equals. Answers are extracted and compared as in branchwise."""
    format_ = row.task.format
    groups, votes = AnswerGroups(format_), Counter[str]()
    for choice in choices:
        message = choice["message"]
        text = str(message["content"] or "") if isinstance(message, dict) else ""
        cut = choice["finish_reason"] == "length"
        answer = format_.extract_cut(text) if cut else format_.extract(text)
        if answer is not None:
            votes[(await groups.place(answer)).value] += 1
    return max(votes, key=lambda value: votes[value], default=None)


async def _empty_prefix_cache(client: httpx.AsyncClient) -> None:
    """Empty the prefix cache; retry, because the blocks of an ended request are freed with a delay."""
    for _ in range(50):
        response = await client.post("/reset_prefix_cache")
        if response.status_code == 200 and response.json().get("success", True):
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"cannot empty the prefix cache: status {response.status_code}, {response.text[:500]}")
