"""Strategies through vLLM's plugin against plain sampling with a vote at the client, on one `vllm serve`."""

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
from branchwise.evaluation.dataset import Row
from branchwise.evaluation.grading import is_correct
from branchwise.evaluation.statistics import Estimate, difference, mean, ratio

PLAIN = "plain"
"""What it is called to send `n` and vote at the client."""


@dataclass(frozen=True)
class Ways:
    """How questions are asked."""

    strategies: tuple[str, ...]
    paths: int
    max_tokens: int
    temperature: float
    at_once: int = 1
    """Questions."""


@dataclass(frozen=True)
class Asked:
    """What came of a question."""

    row: str
    way: str
    answer: str | None
    correct: bool
    seconds: float
    prompt: int
    """Input tokens, as the server counts them."""
    sampled: int


@dataclass(frozen=True)
class Comparison:
    """One way of asking against plain sampling, over the same questions."""

    way: str
    questions: int
    accuracy: Estimate
    gain: Estimate
    """In accuracy, question by question."""
    tokens: Estimate
    """Sampled, relative to plain sampling."""
    time: Estimate
    """Likewise."""
    tokens_each: float
    """Sampled, for a question."""
    seconds_each: float
    """For a question, the median."""


async def compare(server: Server, rows: Sequence[Row], ways: Ways, done: Callable[[Asked], None]) -> list[Asked]:
    """Ask some questions at once, all of them in every way, in turn; nothing is kept from one way for the next."""
    asked: list[Asked] = []
    order = [PLAIN, *ways.strategies]
    async with httpx.AsyncClient(base_url=server.address, timeout=None, trust_env=False) as client:
        for way in order:  # what is compiled or loaded on first use is not counted
            await _ask(client, server, rows[0], way, ways, seed=len(rows))
        for turn, start in enumerate(range(0, len(rows), ways.at_once)):
            some = rows[start : start + ways.at_once]
            for way in order if turn % 2 == 0 else reversed(order):
                await _forget(client)
                asking = (_ask(client, server, row, way, ways, start + place) for place, row in enumerate(some))
                for one in await asyncio.gather(*asking):
                    asked.append(one)
                    done(one)
    return asked


def comparisons(asked: Sequence[Asked]) -> list[Comparison]:
    """Every way, plain sampling first."""
    by_way: dict[str, list[Asked]] = {}
    for one in asked:
        by_way.setdefault(one.way, []).append(one)
    plain = sorted(by_way[PLAIN], key=lambda one: one.row)
    found = []
    for way, those in by_way.items():
        mine = sorted(those, key=lambda one: one.row)
        right, base = [float(one.correct) for one in mine], [float(one.correct) for one in plain]
        found.append(
            Comparison(
                way=way,
                questions=len(mine),
                accuracy=mean(right),
                gain=difference(right, base),
                tokens=ratio([one.sampled for one in mine], [one.sampled for one in plain]),
                time=ratio([one.seconds for one in mine], [one.seconds for one in plain]),
                tokens_each=sum(one.sampled for one in mine) / len(mine),
                seconds_each=median(one.seconds for one in mine),
            )
        )
    return sorted(found, key=lambda one: one.way != PLAIN)


def table(found: Sequence[Comparison]) -> str:
    """For a terminal, in Markdown."""
    head = [
        "| way | accuracy | against plain | tokens a question | x plain | seconds a question | x plain |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_line, found)])


def _line(one: Comparison) -> str:
    return (
        f"| {one.way} | {_shown(one.accuracy, '.2f')} | {_shown(one.gain, '+.2f')} | {one.tokens_each:.0f} "
        f"| {_shown(one.tokens, '.2f')} | {one.seconds_each:.1f} | {_shown(one.time, '.2f')} |"
    )


def _shown(estimate: Estimate, digits: str) -> str:
    value, low, high = (format(number, digits) for number in estimate)
    return f"{value} [{low}, {high}]"


async def _ask(client: httpx.AsyncClient, server: Server, row: Row, way: str, ways: Ways, seed: int) -> Asked:
    """The same messages whatever the way; a failure stops the benchmark, for it would pass for a wrong answer."""
    task = row.task
    turns = task.render(row.question).turns
    body: dict[str, JsonValue] = {
        "model": server.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "max_tokens": ways.max_tokens,
        "temperature": ways.temperature,
        "top_p": 1.0,
        "seed": seed,
    }
    if way == PLAIN:
        body["n"] = ways.paths
    else:
        body["branchwise"] = {"strategy": way, "paths": ways.paths, "answers": task.name}
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
    return Asked(row.id, way, answer, correct, seconds, usage["prompt_tokens"], usage["completion_tokens"])


async def _vote(row: Row, choices: Sequence[dict[str, JsonValue]]) -> str | None:
    """The most frequent answer, the earlier one of equals; read and compared as branchwise does it."""
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


async def _forget(client: httpx.AsyncClient) -> None:
    """Empty the prefix cache; blocks of a request that has just ended are given back in a moment."""
    for _ in range(50):
        response = await client.post("/reset_prefix_cache")
        if response.status_code == 200 and response.json().get("success", True):
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the prefix cache can't be emptied: status {response.status_code}, {response.text[:500]}")
