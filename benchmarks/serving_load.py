"""Load test of `branchwise serve`: waves of many questions at once."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.servers import Server
from branchwise.evaluation.row import Row

MAX_GROWTH = 1.03  # of the server's memory between the middle of the waves and their end
_CPU = "branchwise_serving_cpu_seconds_total"
_TOKENS = "branchwise_tokens_total"


@dataclass(frozen=True)
class WaveShape:
    """Size and strategy of a wave."""

    questions: int
    paths: int
    max_tokens: int
    strategy: str


@dataclass(frozen=True)
class Wave:
    """Result of a wave; times in seconds, memory in bytes."""

    seconds: float
    answered: int
    errors: dict[str, int]
    """Count of each error."""
    tokens: int
    """Sampled tokens according to the replies."""
    counted: int
    """Sampled tokens according to the server's metrics."""
    serving_cpu: float
    """Processor time of the thread that runs HTTP, the driver and the strategies."""
    slowest: float
    memory: tuple[int, ...]
    """Resident bytes, one value per second."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def overhead(self) -> float:
        """Processor time of the serving thread as a share of the wave's time."""
        return self.serving_cpu / self.seconds


async def load(server: Server, rows: Sequence[Row], shape: WaveShape, waves: int) -> list[Wave]:
    """Run the waves one after the other and return them, without the first one, which warms up."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.address, timeout=None, limits=limits, trust_env=False) as client:
        done = [await _wave(client, server, rows, shape, number) for number in range(waves + 1)]
    return done[1:]


def growth(waves: Sequence[Wave]) -> float:
    """Return the server's memory at the end relative to the middle; before, the pools still fill."""
    memory = [size for wave in waves for size in wave.memory]
    return memory[-1] / memory[len(memory) // 2]


async def _wave(client: httpx.AsyncClient, server: Server, rows: Sequence[Row], shape: WaveShape, number: int) -> Wave:
    """Send all questions of wave `number` at once and return the result."""
    memory: list[int] = []

    async def watch() -> None:
        while True:
            memory.append(server.resident())
            await asyncio.sleep(1)

    first = number * shape.questions
    questions = [rows[(first + place) % len(rows)] for place in range(shape.questions)]
    watcher = asyncio.create_task(watch())
    cpu, counted = await _metrics(client)
    began = time.monotonic()
    replies = await asyncio.gather(*(_ask(client, server, row, shape, first + i) for i, row in enumerate(questions)))
    seconds = time.monotonic() - began
    cpu_after, counted_after = await _metrics(client)
    watcher.cancel()
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


async def _ask(client: httpx.AsyncClient, server: Server, row: Row, shape: WaveShape, seed: int) -> _Reply:
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
    errors = reply["branchwise"]["errors"]
    return _Reply(seconds, reply["usage"]["completion_tokens"], errors[0] if errors else None)


async def _metrics(client: httpx.AsyncClient) -> tuple[float, float]:
    """Return the serving thread's processor seconds and the sampled tokens so far."""
    response = await client.get("/metrics")
    response.raise_for_status()
    cpu = tokens = 0.0
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            if sample.name == _CPU:
                cpu += sample.value
            elif sample.name == _TOKENS and sample.labels["kind"] == "sampled":
                tokens += sample.value
    return cpu, tokens
