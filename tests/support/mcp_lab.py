"""MCP servers over HTTP on free ports, and `branchwise mcp` in a process of its own."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx

from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.limits import Limits
from branchwise.cli.address import Address
from branchwise.cli.tool_server import ToolServer
from branchwise.serving.access import APIKeys
from branchwise.serving.middleware import Keys
from tests.support.commands import INTERRUPTIBLE
from tests.support.serving_lab import metric_values

CONFIG = ChatConfig(strategy="self-consistency", paths=5, task="math")
MESSAGE_HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def initialize(request: int = 1) -> dict[str, object]:
    """Return the first message of a session."""
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": request, "method": "initialize", "params": params}


@asynccontextmanager
async def mcp_over_http(
    backend: Backend,
    limits: Limits | None = None,
    *,
    keys: Keys | None = None,
    host: str = "127.0.0.1",
    no_auth: bool = False,
    drain_seconds: float = 10.0,
) -> AsyncIterator[str]:
    """Serve a backend, and return the URL. The server has stopped when the context ends."""
    address = Address(
        host=host,
        port=0,
        api_key_env="UNSET_FOR_TESTS",
        no_auth=no_auth,
        keys_file=None,
        drain_seconds=drain_seconds,
        log_format="text",
    )
    listener = address.listen()
    assert keys is None or isinstance(keys, APIKeys)
    server = ToolServer(backend, CONFIG, limits or Limits())
    running = asyncio.create_task(server.serve_http(listener, address, keys))
    url = address.url(listener, "/mcp")
    async with httpx.AsyncClient() as http:
        for _ in range(500):
            with suppress(httpx.TransportError):
                await http.get(url.replace("/mcp", "/health"))
                break
            await asyncio.sleep(0.01)
    try:
        yield url
    finally:
        for _ in range(2):  # the second one does not wait for running calls
            signal.raise_signal(signal.SIGTERM)
        await running
        listener.close()


@contextmanager
def mcp_process(model: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Start `branchwise mcp --http` on a free port, and return its URL and process id. It is killed at the end."""
    command = [*INTERRUPTIBLE, "mcp", "--http", "--port", "0", "--model", str(model), "--device", "cpu", *options]
    environment = {name: value for name, value in os.environ.items() if name != "BRANCHWISE_API_KEY"}
    process = subprocess.Popen(
        [*command, "--speculation", "off", "--temperature", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1", **(env or {})},
    )
    with process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+/mcp", process.stdout.readline())
            assert found is not None
            yield found.group(), process.pid
        finally:
            process.kill()


async def running(url: str, headers: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Return the numbers of running questions and branches."""
    async with httpx.AsyncClient(headers=headers) as http:
        values = metric_values((await http.get(url.replace("/mcp", "/metrics"))).text)
    return values["branchwise_questions_running"], values["branchwise_branches_running"]


async def until_running(url: str, questions: int, seconds: float = 20.0) -> None:
    """Wait until this number of questions run, and no branch if it is 0; fail after `seconds`."""
    for _ in range(int(seconds / 0.05)):
        now = await running(url)
        if now[0] == questions and (questions or not now[1]):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(now)
