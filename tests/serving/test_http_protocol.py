"""Clients that hold connections: unfinished headers, too many connections, and replies that are never read."""

import asyncio
import json
import resource
import signal
import socket
import sys
import time

import httpx
import pytest

from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.limits import Limits
from branchwise.serving.http_protocol import ConnectionLimits, connection_limits
from tests.support.serving_lab import CHAT, Served, chat_body, serving, wait_until

UNFINISHED = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-"


async def open_unfinished(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that has sent a part of a header."""
    address = httpx.URL(served.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(UNFINISHED)
    return reader, writer


async def health(served: Served) -> int:
    """Return the status of /health over a connection of its own."""
    async with httpx.AsyncClient(base_url=served.url, timeout=5) as http:
        return (await http.get("/health")).status_code


async def test_unfinished_header_ends_the_connection() -> None:
    async with serving(ScriptedBackend({"": ["42"]}), connections=ConnectionLimits(header_seconds=0.3)) as served:
        reader, writer = await open_unfinished(served)
        began = time.monotonic()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert 0.2 < time.monotonic() - began < 3
        writer.close()


async def test_header_that_trickles_in_is_not_given_more_time() -> None:
    async with serving(ScriptedBackend({"": ["42"]}), connections=ConnectionLimits(header_seconds=0.5)) as served:
        reader, writer = await open_unfinished(served)
        for _ in range(40):
            writer.write(b"a")
            await asyncio.sleep(0.05)
            if reader.at_eof() or reader.exception():
                break
        assert reader.at_eof() or reader.exception()
        writer.close()


async def test_second_request_of_a_connection_has_a_time_limit_too() -> None:
    async with serving(ScriptedBackend({"": ["42"]}), connections=ConnectionLimits(header_seconds=0.5)) as served:
        address = httpx.URL(served.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readuntil(b'{"status":"ok"}')
        writer.write(UNFINISHED)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 4)
        writer.close()


async def test_connections_beyond_the_limit_take_the_place_of_idle_ones() -> None:
    backend = ScriptedBackend({"": [Reply("The answer is 42.", delay=0.2)]})
    async with serving(backend, connections=ConnectionLimits(connections=20)) as served:
        asking = asyncio.create_task(served.chat())
        await wait_until(lambda: served.queue.running == 1)
        held = [await open_unfinished(served) for _ in range(60)]
        assert await health(served) == 200
        assert len(served.server.server_state.connections) <= 20
        assert (await asking).status_code == 200  # a connection with a request keeps its place
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("choices", [1, 4])
async def test_stream_that_is_never_read_frees_its_turn(choices: int) -> None:
    long = Reply("The answer is 42. " * 3000, delay=0.0)
    limits, connections = Limits(questions=1, tokens=10**9), ConnectionLimits(stall_seconds=1.0)
    async with serving(ScriptedBackend({"": [long]}), limits, connections=connections) as served:
        address = httpx.URL(served.url)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (address.host, address.port))
        body = json.dumps(chat_body(stream=True, n=choices, max_tokens=9000)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await asyncio.get_running_loop().sock_sendall(
            client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await wait_until(lambda: served.queue.running == 1)
        assert (await served.chat(max_tokens=2)).status_code == 200
        await wait_until(lambda: not any(one.has_request for one in served.server.server_state.connections))  # type: ignore[union-attr]
        began = time.monotonic()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(served.running, 15)
        assert time.monotonic() - began < 8
        client.close()


async def test_a_length_of_two_kinds_is_refused() -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        address = httpx.URL(served.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


def test_half_of_the_file_descriptors_are_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, expected in ((256, 128), (20, 16), (100_000, 1024), (resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, soft=soft: (soft, soft))
        limits = connection_limits()
        assert limits.connections == expected
        assert limits.backlog <= max(16, expected // 2)


_FEW_DESCRIPTORS = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from branchwise.backends.scripted.backend import ScriptedBackend
from tests.support.serving_lab import serving

async def main():
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        print(served.url, flush=True)
        await asyncio.sleep(20)

asyncio.run(main())
"""


async def test_hundreds_of_unfinished_connections_stop_nobody() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FEW_DESCRIPTORS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = httpx.URL((await process.stdout.readline()).decode().strip())
    held = []
    for _ in range(300):
        held.append(await asyncio.open_connection(url.host, url.port))
        held[-1][1].write(UNFINISHED)
    async with httpx.AsyncClient(base_url=url, timeout=5) as http:
        for _ in range(5):
            began = time.monotonic()
            async with httpx.AsyncClient(base_url=url, timeout=5) as fresh:
                assert (await fresh.get("/health")).status_code == 200
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.2)
        assert (await http.get("/health")).status_code == 200
    for _, writer in held:
        writer.close()
    process.kill()
    _, errors = await process.communicate()
    assert errors.decode().count("Traceback") == 0
