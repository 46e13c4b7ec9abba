"""A server of our own on a port of its own, and who asks it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

import httpx
import openai
from pydantic import JsonValue

from branchwise.backends.base import Backend
from branchwise.driver import Observer, Verifier, together
from branchwise.serving.answering import Answering
from branchwise.serving.app import Service, create_app
from branchwise.serving.keys import Keys
from branchwise.serving.limits import Limits
from branchwise.serving.metrics import Metrics
from branchwise.serving.queue import Queue
from branchwise.serving.server import Server, listen

CHAT, QUESTION = "/v1/chat/completions", "/v1/branchwise"


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    server: Server
    running: asyncio.Task[None]
    queue: Queue
    url: str
    http: httpx.AsyncClient
    client: openai.AsyncOpenAI

    async def ask(self, **body: JsonValue) -> httpx.Response:
        """A question, with what else the body has."""
        return await self.http.post(CHAT, json=asked(**body))


def asked(**body: JsonValue) -> dict[str, JsonValue]:
    return {"model": "scripted", "messages": [{"role": "user", "content": "6 * 7?"}], **body}


@asynccontextmanager
async def serving(
    backend: Backend,
    limits: Limits | None = None,
    *,
    key: str | None = None,
    local: bool = False,
    drain_seconds: float = 10.0,
    verifier: Verifier | None = None,
    observer: Observer | None = None,
    traced: Callable[[Mapping[str, str]], AbstractContextManager[object]] = nullcontext,
) -> AsyncIterator[Served]:
    """Serve a backend. The clients have the key; the server has stopped when this is left."""
    limits = limits or Limits()
    queue = Queue(limits)
    metrics = Metrics(queue)
    answering = Answering(backend, limits, observer=together(metrics, observer), verifier=verifier)
    listener, started = listen("127.0.0.1", 0), asyncio.Event()
    service = Service(answering, queue, metrics)
    server = Server(
        service,
        create_app(service, keys=None if key is None else Keys([key]), local=local, traced=traced),
        drain_seconds=drain_seconds,
        on_start=started.set,
    )
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = asyncio.create_task(server.serve([listener]))
    await started.wait()
    async with AsyncExitStack() as stack:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=httpx.Limits(max_connections=None))
        )
        client = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key or "none", max_retries=0, timeout=30)
        )
        try:
            yield Served(server, running, queue, url, http, client)
        finally:
            server.should_exit = True
            await running


def events(text: str) -> list[dict[str, JsonValue]]:
    """The chunks of a stream, which ends as it should."""
    told = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    assert told.pop() == "[DONE]"
    return [json.loads(each) for each in told]


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that must come about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def samples(metrics: str) -> Mapping[str, float]:
    """Prometheus' text by name with labels."""
    lines = (line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
