"""Servers on free ports, scripted backends for them, and clients."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import openai
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.base import Backend
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.limits import Limits
from branchwise.driver import Observer, Verifier, together
from branchwise.serving.access import APIKeys
from branchwise.serving.app import Service, create_app
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.http_protocol import ConnectionLimits
from branchwise.serving.metrics import Metrics
from branchwise.serving.middleware import Keys
from branchwise.serving.queue import RequestQueue
from branchwise.serving.server import Server, listen

CHAT, NATIVE = "/v1/chat/completions", "/v1/branchwise"

RIGHT, WRONG = "Six times seven is 42. The answer is 42.", "It is 41. The answer is 41."
SLOW = Reply("The answer is 42. " * 200, delay=0.01)
FULL = bw.Capabilities(model="scripted", context=10_000)
FIVE_PATHS: JsonValue = {"strategy": "self-consistency", "paths": 5, "answers": "math"}

TOOL: dict[str, JsonValue] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PARIS = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ROME = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
TIDES = '<tool_call>\n{"name": "tides", "arguments": {"city": "Rome"}}\n</tool_call>'


@dataclass(frozen=True, slots=True)
class Served:
    """A running server and its clients."""

    server: Server
    running: asyncio.Task[None]
    queue: RequestQueue
    completions: ChatCompletions
    url: str
    http: httpx.AsyncClient
    client: openai.AsyncOpenAI

    async def chat(self, **fields: JsonValue) -> httpx.Response:
        """Send a chat completion request with these fields."""
        return await self.http.post(CHAT, json=chat_body(**fields))


class PromptRecorder(ScriptedBackend):
    """Records the prompts it gets."""

    def __init__(self, *replies: str | Reply) -> None:
        super().__init__({"": replies})
        self.prompts: list[bw.Messages] = []

    async def root(self, messages: bw.Messages, key: int) -> bw.Path:
        self.prompts.append(messages)
        return await super().root(messages, key)


def scripted(*replies: str | Reply, capabilities: bw.Capabilities = FULL) -> ScriptedBackend:
    """Return a backend that gives the replies in turn at the prompt, and the right answer after a prefix."""
    turns = itertools.cycle(replies)

    def reply(path: bw.Path, before: int) -> str | Reply:
        return " So the answer is 42." if path.parent is not None else next(turns)

    return ScriptedBackend(reply, capabilities=capabilities)


def slow_backend(capabilities: bw.Capabilities | None = None) -> ScriptedBackend:
    """Return a backend whose branches take about ten seconds."""
    return ScriptedBackend({"": [SLOW]}, capabilities=capabilities)


def chat_body(**fields: JsonValue) -> dict[str, JsonValue]:
    """Return the body of a chat completion request."""
    return {"model": "scripted", "messages": [{"role": "user", "content": "6 * 7?"}], **fields}


def tool_choice(tool: str) -> dict[str, JsonValue]:
    """Return a `tool_choice` that names the tool."""
    return {"type": "function", "function": {"name": tool}}


def is_consistent(usage: dict[str, JsonValue]) -> bool:
    """Return whether the counts of the usage satisfy its equations."""
    count = {name: value for name, value in usage.items() if isinstance(value, int)}
    return (
        count["prompt"] == count["reused"] + count["prefilled"]
        and count["discarded"] <= count["sampled"]
        and count["accepted"] <= min(count["sampled"], count["drafted"])
    )


@asynccontextmanager
async def serving(
    backend: Backend,
    limits: Limits | None = None,
    *,
    key: str | None = None,
    keys: Keys | None = None,
    cors: Sequence[str] = (),
    local: bool = False,
    drain_seconds: float = 10.0,
    connections: ConnectionLimits | None = None,
    verifier: Verifier | None = None,
    observer: Observer | None = None,
    traced: Callable[[Mapping[str, str]], AbstractContextManager[object]] = nullcontext,
) -> AsyncIterator[Served]:
    """Serve a backend. The clients send the key; the server has stopped when the context ends."""
    limits = limits or Limits()
    queue = RequestQueue(limits)
    metrics = Metrics(queue)
    completions = ChatCompletions(backend, limits, observer=together(metrics, observer), verifier=verifier)
    listener, started = listen("127.0.0.1", 0), asyncio.Event()
    service = Service(completions, queue, metrics)
    server = Server(
        create_app(
            service, keys=APIKeys.parse(key or "") if keys is None else keys, local=local, cors=cors, traced=traced
        ),
        queue,
        completions.stop,
        drain_seconds=drain_seconds,
        connections=connections,
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
            yield Served(server, running, queue, completions, url, http, client)
        finally:
            server.should_exit = True
            await running


async def open_chat(served: Served, **fields: JsonValue) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a chat completion request over a socket of its own, which can be closed at any time."""
    port = int(served.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(chat_body(**fields)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    writer.write(head.encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return reader, writer


async def close_connection(writer: asyncio.StreamWriter) -> None:
    """Close a socket, also one that the server has closed."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def events(text: str) -> list[dict[str, Any]]:
    """Return the chunks of a stream, and check that it ends with [DONE]."""
    data = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


async def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until the condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def metric_values(metrics: str) -> Mapping[str, float]:
    """Return the values in Prometheus's text format, by name with labels."""
    lines = (line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
