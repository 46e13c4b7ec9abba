"""Bodies of requests, and clients that disconnect."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import JsonValue

from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.chat.limits import Limits
from tests.support.serving_lab import (
    CHAT,
    FIVE_PATHS,
    close_connection,
    metric_values,
    open_chat,
    serving,
    slow_backend,
    wait_until,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("branches", [1, 5])
async def test_disconnect_stops_every_branch(stream: bool, branches: int) -> None:
    backend = slow_backend()
    async with serving(backend) as served:
        key = FIVE_PATHS if branches == 5 else None
        reader, writer = await open_chat(served, stream=stream, branchwise=key)
        if stream:
            await reader.readuntil(b"data: ")
        await wait_until(lambda: len(backend.running) == branches)
        await asyncio.sleep(0.1)  # some tokens
        values = metric_values((await served.http.get("/metrics")).text)
        assert values["branchwise_branches_running"] == branches
        began = time.monotonic()
        await close_connection(writer)
        await wait_until(lambda: not backend.running and not served.queue.running)
        assert time.monotonic() - began < 1
        values = metric_values((await served.http.get("/metrics")).text)
    strategy = "plain" if branches == 1 else "self-consistency"
    assert values["branchwise_branches_running"] == 0
    assert values[f'branchwise_questions_total{{outcome="cancelled",strategy="{strategy}"}}'] == 1
    sampled = values[f'branchwise_tokens_total{{kind="sampled",strategy="{strategy}"}}']
    assert sampled == values[f'branchwise_tokens_total{{kind="discarded",strategy="{strategy}"}}'] > 0
    assert values['branchwise_requests_total{route="/v1/chat/completions",status="%s"}' % (200 if stream else 499)] == 1


async def test_closing_the_openai_stream_stops_every_branch() -> None:
    backend = slow_backend()
    async with serving(backend) as served:
        stream = await served.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "q"}], stream=True, n=3
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        assert len(backend.running) == 3
        await stream.close()
        await wait_until(lambda: not backend.running)


async def test_disconnect_without_per_branch_cancel() -> None:
    capabilities = replace(slow_backend().capabilities, per_branch_cancel=False)
    backend = slow_backend(capabilities)
    async with serving(backend) as served:
        _, writer = await open_chat(served, branchwise=FIVE_PATHS)
        await wait_until(lambda: len(backend.running) == 5)
        await close_connection(writer)
        await wait_until(lambda: not backend.running)


async def test_body_size_is_limited() -> None:
    async with serving(ScriptedBackend({"": ["42"]}), Limits(body_bytes=2000)) as served:
        long: JsonValue = [{"role": "user", "content": "x" * 3000}]
        declared = await served.chat(messages=long)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b" " * 100

        chunked = await served.http.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
        for response in (declared, chunked):
            assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert (await served.chat()).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": NaN}', b"\xff\xfe", b"[" * 100_000, b'"' + b"9" * 5000 + b"\n", b"9" * 5000],
)
async def test_invalid_json_is_rejected(body: bytes) -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        response = await served.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b"7", b'"text"', b"null"])
async def test_json_without_an_object_is_rejected(body: bytes) -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        response = await served.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "body")


async def test_unpaired_surrogates_are_rejected() -> None:
    body = b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}'
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        response = await served.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "body")


async def test_a_body_of_many_objects_is_refused_at_once() -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        began = time.monotonic()
        refused = await served.chat(messages=[{"role": "user", "content": "x"}] * 100_000)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        assert time.monotonic() - began < 3
        parts: JsonValue = [{"type": "text", "text": "x"}] * 5000
        assert (await served.chat(messages=[{"role": "user", "content": parts}])).status_code == 413
        assert (await served.chat(messages=[{"role": "user", "content": "x"}] * 1000)).status_code == 200
