"""Shutdown, and the socket that the server listens at."""

import asyncio
import signal
import time

import httpx
import pytest
from pydantic import JsonValue

from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.limits import Limits
from branchwise.core.errors import ConfigError
from branchwise.serving.server import listen
from tests.support.serving_lab import FIVE_PATHS, SLOW, events, serving, slow_backend, wait_until


async def test_shutdown_finishes_running_questions() -> None:
    backend = ScriptedBackend({"": [Reply("The answer is 42.", delay=0.1)]})
    async with serving(backend, Limits(questions=2)) as served:
        under_way = [asyncio.create_task(served.chat(branchwise=FIVE_PATHS, stream=stream)) for stream in (False, True)]
        await wait_until(lambda: served.queue.running == 2)
        waiting = asyncio.create_task(served.chat())
        await wait_until(lambda: served.queue.queued == 1)
        signal.raise_signal(signal.SIGTERM)
        await wait_until(lambda: served.queue.draining)
        health = await served.http.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "draining"})
        late = await served.chat()
        for response in (late, await waiting):
            assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
            assert "retry-after" in response.headers
        whole, streamed = await asyncio.gather(*under_way)
        assert whole.json()["branchwise"]["votes"] == {"42": 5.0}
        assert events(streamed.text)[-1]["branchwise"]["votes"] == {"42": 5.0}
        await wait_until(lambda: served.server.should_exit)
        await asyncio.wait_for(served.running, 5)
        with pytest.raises(httpx.TransportError):
            await served.http.get("/health")


async def test_shutdown_timeout_returns_best_answers() -> None:
    backend = ScriptedBackend({"": ["The answer is 42.", SLOW]})
    async with serving(backend, drain_seconds=0.2) as served:
        key: JsonValue = {"strategy": "self-consistency", "paths": 2, "answers": "math"}
        asking = [asyncio.create_task(served.chat(branchwise=key, stream=stream)) for stream in (False, True)]
        await wait_until(lambda: served.queue.running == 2)
        signal.raise_signal(signal.SIGTERM)
        whole, streamed = await asyncio.gather(*asking)
        for details in (whole.json()["branchwise"], events(streamed.text)[-1]["branchwise"]):
            assert (details["answer"], details["outcome"]) == ("42", "cancelled")
        assert not backend.running


async def test_shutdown_timeout_returns_partial_samples() -> None:
    async with serving(slow_backend(), drain_seconds=0.2) as served:
        asking = [asyncio.create_task(served.chat(n=2, stream=stream)) for stream in (False, True)]
        await wait_until(lambda: served.queue.running == 2)
        signal.raise_signal(signal.SIGTERM)
        whole, streamed = await asyncio.gather(*asking)
        for choice in whole.json()["choices"]:
            assert choice["message"]["content"].startswith("The answer is")
            assert choice["finish_reason"] == "length"
        assert events(streamed.text)[-1]["branchwise"]["outcome"] == "cancelled"


async def test_second_signal_stops_at_once() -> None:
    backend = slow_backend()
    async with serving(backend, drain_seconds=60) as served:
        asking = asyncio.create_task(served.chat(branchwise=FIVE_PATHS))
        await wait_until(lambda: len(backend.running) == 5)
        signal.raise_signal(signal.SIGINT)
        await wait_until(lambda: served.queue.draining)
        began = time.monotonic()
        signal.raise_signal(signal.SIGINT)
        await wait_until(lambda: not backend.running)
        await asyncio.gather(asking, return_exceptions=True)
    assert time.monotonic() - began < 3


def test_port_in_use_is_an_error_before_loading() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(ConfigError, match="in use"):
            listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(ConfigError, match="not a host"):
        listen("no such host", 0)
