"""Load on `branchwise serve`: many questions at once, wave after wave."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.servers import Server
from branchwise.evaluation.dataset import Row

FLAT = 1.03  # growth of the server between the middle of the waves and their end that still counts as none
_CPU = "branchwise_serving_cpu_seconds_total"
_TOKENS = "branchwise_tokens_total"


@dataclass(frozen=True)
class Shape:
    """What a wave is."""

    questions: int
    paths: int
    max_tokens: int
    strategy: str


@dataclass(frozen=True)
class Wave:
    """What came of one: times in seconds, memory in bytes."""

    seconds: float
    answered: int
    errors: dict[str, int]
    """How often each went wrong."""
    tokens: int
    """Sampled, by the replies."""
    counted: int
    """Sampled, by the server's own metrics."""
    serving_cpu: float
    """Processor time of the thread that serves and drives the strategies: all that is not the engine's."""
    slowest: float
    memory: tuple[int, ...]
    """Every second."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def overhead(self) -> float:
        """The serving thread's time for a token as a share of the time in which the engine makes one."""
        return self.serving_cpu / self.seconds


async def load(server: Server, rows: Sequence[Row], shape: Shape, waves: int) -> list[Wave]:
    """The waves, one after the other; an extra one before them warms up."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.address, timeout=None, limits=limits, trust_env=False) as client:
        done = [await _wave(client, server, rows, shape, number) for number in range(waves + 1)]
    return done[1:]


def growth(waves: Sequence[Wave]) -> float:
    """The server's memory at the end, relative to the middle: pools fill at first."""
    memory = [size for wave in waves for size in wave.memory]
    return memory[-1] / memory[len(memory) // 2]


async def _wave(client: httpx.AsyncClient, server: Server, rows: Sequence[Row], shape: Shape, number: int) -> Wave:
    """Every question of a wave at once."""
    memory: list[int] = []

    async def watch() -> None:
        while True:
            memory.append(server.resident())
            await asyncio.sleep(1)

    first = number * shape.questions
    asked = [rows[(first + place) % len(rows)] for place in range(shape.questions)]
    watching = asyncio.create_task(watch())
    cpu, counted = await _metrics(client)
    began = time.monotonic()
    replies = await asyncio.gather(*(_ask(client, server, row, shape, first + i) for i, row in enumerate(asked)))
    seconds = time.monotonic() - began
    cpu_after, counted_after = await _metrics(client)
    watching.cancel()
    memory.append(server.resident())
    return Wave(
        seconds=seconds,
        answered=sum(reply.error is None for reply in replies),
        errors=dict(Counter(reply.error for reply in replies if reply.error is not None)),
        tokens=sum(reply.tokens for reply in replies),
        counted=round(counted_after - counted),
        serving_cpu=cpu_after - cpu,
        slowest=max(reply.seconds for reply in replies),
        memory=tuple(memory),
    )


@dataclass(frozen=True)
class _Reply:
    seconds: float
    tokens: int = 0
    error: str | None = None


async def _ask(client: httpx.AsyncClient, server: Server, row: Row, shape: Shape, seed: int) -> _Reply:
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": row.question}],
        "max_tokens": shape.max_tokens,
        "seed": seed,
        "branchwise": {"strategy": shape.strategy, "paths": shape.paths, "task": row.task.name},
    }
    began = time.monotonic()
    try:
        response = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return _Reply(time.monotonic() - began, error=type(error).__name__)
    seconds = time.monotonic() - began
    if response.status_code != 200:
        return _Reply(seconds, error=f"status {response.status_code}: {response.text[:200]}")
    reply = response.json()
    wrong = reply["branchwise"]["errors"]
    return _Reply(seconds, reply["usage"]["completion_tokens"], wrong[0] if wrong else None)


async def _metrics(client: httpx.AsyncClient) -> tuple[float, float]:
    """The serving thread's processor seconds so far, and sampled tokens."""
    response = await client.get("/metrics")
    response.raise_for_status()
    cpu = tokens = 0.0
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            cpu += sample.value * (sample.name == _CPU)
            tokens += sample.value * (sample.name == _TOKENS and sample.labels["kind"] == "sampled")
    return cpu, tokens
