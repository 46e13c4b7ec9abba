"""The MCP server over HTTP, asked by the real client."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client

from branchwise.backends.scripted.backend import Reply
from branchwise.chat.limits import Limits
from branchwise.serving.access import APIKeys
from branchwise.serving.clients import Client, Quota
from tests.support.mcp_lab import MESSAGE_HEADERS, initialize, mcp_over_http, mcp_process, running, until_running
from tests.support.talks import Talk

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])  # single exchanges, and sessions
RIGHT = ["The answer is 42."]
SLOW = [Reply("one two three four five six " * 50, delay=0.02)]


@asynccontextmanager
async def client(url: str, mode: str, key: str | None = None) -> AsyncIterator[mcp.Client]:
    """Return a client that sends the key."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as made,
    ):
        yield made


@MODES
async def test_calls_are_answered_with_progress(mode: str) -> None:
    heard: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))

    async with mcp_over_http(Talk([Reply("The answer is 42.", delay=0.15)])) as url, client(url, mode) as asked:
        result = await asked.call_tool("solve", {"question": "q", "budget_tokens": 100}, progress_callback=hear)
    assert result.structured_content is not None
    assert result.structured_content["votes"] == {"42": 5.0}
    counts = [progress for progress, _ in heard]
    assert len(counts) > 1
    assert counts == sorted(set(counts))
    assert {total for _, total in heard} == {100}


@MODES
async def test_cancelling_a_call_stops_its_branches(mode: str) -> None:
    backend = Talk(SLOW)
    async with mcp_over_http(backend) as url, client(url, mode) as asked:
        task = asyncio.create_task(asked.call_tool("solve", {"question": "q"}))
        await backend.speaking(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await backend.idle()
        await until_running(url, 0)
        result = await asked.call_tool("solve", {"question": "q", "budget_tokens": 5})
    assert not result.is_error


_CALLER = """
import asyncio, sys, mcp
async def main():
    async with mcp.Client(sys.argv[1], mode=sys.argv[2]) as client:
        await client.call_tool("solve", {"question": "q"})
asyncio.run(main())
"""


@MODES
async def test_a_client_that_dies_frees_its_turn(mode: str) -> None:
    backend = Talk(SLOW)
    async with mcp_over_http(backend, Limits(questions=1)) as url:
        command = [sys.executable, "-c", _CALLER, url, mode]
        dying = [await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL) for _ in "ab"]
        await backend.speaking(5)  # the other one waits in the queue
        await asyncio.sleep(1)
        for each in dying:
            each.kill()
            await each.wait()
        began = time.monotonic()
        assert await backend.idle()
        await until_running(url, 0)
        assert time.monotonic() - began < 3


@MODES
async def test_clients_are_answered_at_the_same_time(mode: str) -> None:
    async with mcp_over_http(Talk([Reply("The answer is 42.", delay=0.1)]), Limits(questions=4, queue=4)) as url:

        async def ask() -> str:
            async with client(url, mode) as asked:
                result = await asked.call_tool("solve", {"question": "q"})
                return "busy" if result.is_error else "answered"

        replies = await asyncio.gather(*(ask() for _ in range(12)))
    assert set(replies) <= {"answered", "busy"}
    assert replies.count("answered") >= 8


@MODES
async def test_keys_and_quotas(mode: str) -> None:
    keys = APIKeys({"s3cret": Client("alice", Quota(questions=1)), "other": Client("bob")})
    async with mcp_over_http(Talk(SLOW), keys=keys) as url:
        async with httpx.AsyncClient() as http:
            for headers in ({}, {"authorization": "Bearer wrong"}):
                denied = await http.post(url, json=initialize(), headers=MESSAGE_HEADERS | headers)
                assert (denied.status_code, denied.json()["error"]["code"]) == (401, "invalid_api_key")
                assert (await http.get(url.replace("/mcp", "/metrics"), headers=headers)).status_code == 401
            assert (await http.get(url.replace("/mcp", "/health"))).json() == {"status": "ok"}
        async with client(url, mode, "s3cret") as alice, client(url, mode, "other") as bob:
            first = asyncio.create_task(alice.call_tool("solve", {"question": "q", "budget_seconds": 2}))
            for _ in range(200):
                if (await running(url, {"authorization": "Bearer other"}))[0] == 1:
                    break
                await asyncio.sleep(0.02)
            second = await alice.call_tool("solve", {"question": "q"})
            assert second.is_error
            assert "questions at the same time" in str(second.content)
            third = await bob.call_tool("solve", {"question": "q", "budget_seconds": 0.5})
            assert not third.is_error
            assert not (await first).is_error


@pytest.mark.parametrize("header", ["host", "origin"])
async def test_web_pages_cannot_reach_a_local_server(header: str) -> None:
    value = {"host": "evil.example", "origin": "http://evil.example"}[header]
    async with mcp_over_http(Talk(RIGHT)) as url, httpx.AsyncClient(headers=MESSAGE_HEADERS) as http:
        assert (await http.post(url, json=initialize(), headers={header: value})).status_code == 403
        modern = {header: value, "mcp-protocol-version": "2026-07-28"}
        assert (await http.post(url, json=initialize(), headers=modern)).status_code == 403
        assert (await http.post(url, json=initialize(), headers={"origin": "http://localhost:1"})).status_code == 200


async def test_a_real_process_ends_within_its_drain_time(tiny_model_folder: Path) -> None:
    options = ["--max-tokens", "400", "--paths", "20", "--drain-seconds", "1", "--budget-tokens", "6000"]
    with mcp_process(tiny_model_folder, *options) as (url, process):
        async with mcp.Client(url) as asked:
            short = await asked.call_tool("solve", {"question": "q", "task": "text", "budget_tokens": 20})
            assert not short.is_error
            long = asyncio.create_task(asked.call_tool("solve", {"question": "q", "task": "text"}))
            await until_running(url, 1)
            os.kill(process, signal.SIGTERM)
            began = time.monotonic()
            result = await long
            assert time.monotonic() - began < 5
            assert result.structured_content is not None
            assert result.structured_content["outcome"] == "cancelled"
        for _ in range(100):
            if not _is_alive(process):
                break
            await asyncio.sleep(0.1)
        assert not _is_alive(process)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
