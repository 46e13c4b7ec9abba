"""What a server allows, and how it behaves where there is too much to do, or nobody to answer."""

import asyncio
import json
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import httpx
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.core.errors import ConfigError
from branchwise.observability.tracing import Tracing, remote_parent
from branchwise.serving.keys import Keys, host_of, is_loopback
from branchwise.serving.limits import Limits
from branchwise.serving.server import listen
from tests.support.serving_lab import CHAT, Served, asked, events, samples, serving, until

SLOW = Reply("The answer is 42. " * 200, delay=0.01)
KEY: JsonValue = {"strategy": "self-consistency", "paths": 5}


def slow(able: bw.Capabilities | None = None) -> ScriptedBackend:
    return ScriptedBackend({"": [SLOW]}, capabilities=able)


async def raw(served: Served, **body: JsonValue) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A question over a socket of its own, which one can close at any time."""
    port = int(served.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(asked(**body)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    writer.write(head.encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return reader, writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("branches", [1, 5])
async def test_a_client_that_goes_away_takes_every_branch_with_it(stream: bool, branches: int) -> None:
    backend = slow()
    async with serving(backend) as served:
        key = KEY if branches == 5 else None
        reader, writer = await raw(served, stream=stream, branchwise=key)
        if stream:
            await reader.readuntil(b"data: ")
        await until(lambda: len(backend.running) == branches)
        await asyncio.sleep(0.1)  # some tokens
        told = samples((await served.http.get("/metrics")).text)
        assert told["branchwise_branches_running"] == branches
        began = time.monotonic()
        await close(writer)
        await until(lambda: not backend.running and not served.queue.running)
        assert time.monotonic() - began < 1
        told = samples((await served.http.get("/metrics")).text)
    strategy = "plain" if branches == 1 else "self-consistency"
    assert told["branchwise_branches_running"] == 0
    assert told[f'branchwise_questions_total{{outcome="cancelled",strategy="{strategy}"}}'] == 1
    sampled = told[f'branchwise_tokens_total{{kind="sampled",strategy="{strategy}"}}']
    assert sampled == told[f'branchwise_tokens_total{{kind="discarded",strategy="{strategy}"}}'] > 0
    assert told['branchwise_requests_total{route="/v1/chat/completions",status="%s"}' % (200 if stream else 499)] == 1


async def test_closing_openai_s_stream_stops_the_model() -> None:
    backend = slow()
    async with serving(backend) as served:
        stream = await served.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "q"}], stream=True, n=3
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        assert len(backend.running) == 3
        await stream.close()
        await until(lambda: not backend.running)


async def test_a_client_that_goes_away_in_the_queue_leaves_it() -> None:
    backend = slow()
    async with serving(backend, Limits(questions=1)) as served:
        for stream in (False, True):
            first = await raw(served)
            await until(lambda: served.queue.running == 1)
            second = await raw(served, stream=stream)
            await until(lambda: served.queue.queued == 1)
            await close(second[1])
            await until(lambda: served.queue.queued == 0)
            assert (served.queue.running, len(backend.running)) == (1, 1)
            await close(first[1])
            await until(lambda: not served.queue.running)
        assert not backend.running


async def test_a_question_waits_for_its_turn() -> None:
    backend = ScriptedBackend({"": [Reply("The answer is 42.", delay=0.02)]})
    async with serving(backend, Limits(questions=1, queue=3)) as served:
        asking = [asyncio.create_task(served.ask()) for _ in range(4)]
        await until(lambda: served.queue.queued == 3)
        assert [response.status_code for response in await asyncio.gather(*asking)] == [200] * 4


@pytest.mark.parametrize("stream", [False, True])
async def test_too_many_are_turned_away_and_told_when_to_come_again(stream: bool) -> None:
    async with serving(slow(), Limits(questions=1, queue=1)) as served:
        others = [await raw(served)]
        await until(lambda: served.queue.running == 1)
        others.append(await raw(served))
        await until(lambda: served.queue.queued == 1)
        response = await served.ask(stream=stream)
        assert response.status_code == 429
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert response.json()["error"]["type"] == "rate_limit_error"
        with pytest.raises(openai.RateLimitError):
            await served.client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "q"}])
        for _, writer in others:
            await close(writer)


async def test_waiting_has_an_end() -> None:
    async with serving(slow(), Limits(questions=1, queue_seconds=0.1)) as served:
        _, writer = await raw(served)
        await until(lambda: served.queue.running == 1)
        response = await served.ask()
        assert (response.status_code, "retry-after" in response.headers) == (429, True)
        assert served.queue.queued == 0
        await close(writer)


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Everything that is logged, whatever other tests made of this library's loggers."""
    monkeypatch.setattr(logging.getLogger("branchwise"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "branchwise")
    return caplog


def written(logs: pytest.LogCaptureFixture) -> str:
    """What the server logged, not its clients."""
    own = [each for each in logs.records if each.name.partition(".")[0] not in ("httpx", "httpcore", "openai")]
    return "".join(f"{each.getMessage()} {getattr(each, 'fields', '')}\n" for each in own)


async def test_a_key_is_asked_for_and_never_shown(logs: pytest.LogCaptureFixture) -> None:
    async with serving(ScriptedBackend({"": ["42"]}), key="sk-right") as served:
        assert (await served.ask()).status_code == 200
        for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic sk-right"}):
            async with httpx.AsyncClient(base_url=served.url, headers=headers) as stranger:
                for path in ("/v1/models", "/metrics", "/nowhere"):
                    response = await stranger.get(path)
                    error = response.json()["error"]
                    assert (response.status_code, error["code"]) == (401, "invalid_api_key"), path
                    assert response.headers["www-authenticate"] == "Bearer"
                assert (await stranger.post(CHAT, content=b"x" * 100)).status_code == 401
                assert (await stranger.get("/health")).status_code == 200
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
    assert "401" in written(logs)
    assert "sk-" not in written(logs)


def test_keys_are_read_one_by_one() -> None:
    keys = Keys.parse(" one,two\nthree ")
    assert keys is not None
    assert all(keys.accept(f"Bearer {key}") for key in ("one", "two", "three"))
    assert not any(
        keys.accept(header) for header in (None, "", "one", "Bearer", "Bearer ", "Bearer one,two", "bearer x")
    )
    assert "one" not in repr(keys)
    assert Keys.parse(" ,\n") is None
    with pytest.raises(ConfigError):
        Keys([])


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_loopback_is_this_machine_alone(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_a_host_header_may_have_a_port() -> None:
    assert [host_of(header) for header in ("a:1", "a", "[::1]:80", "[::1]", "")] == ["a", "a", "[::1]", "[::1]", ""]


async def test_without_a_key_a_local_server_answers_as_this_machine_alone() -> None:
    """A name of its own that leads here is how a page in a browser would ask."""
    async with serving(ScriptedBackend({"": ["42"]}), local=True) as served:
        assert (await served.ask()).status_code == 200
        assert (await served.http.get("/health", headers={"host": "localhost:80"})).status_code == 200
        response = await served.http.post(CHAT, json=asked(), headers={"host": "rebound.example.org"})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "host_not_allowed")


async def test_bodies_have_a_limit() -> None:
    async with serving(ScriptedBackend({"": ["42"]}), Limits(body_bytes=2000)) as served:
        long: JsonValue = [{"role": "user", "content": "x" * 3000}]
        declared = await served.ask(messages=long)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b" " * 100

        chunked = await served.http.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
        for response in (declared, chunked):
            assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert (await served.ask()).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": NaN}', b"\xff\xfe", b"[" * 100_000, b'"' + b"9" * 5000 + b"\n", b"9" * 5000],
)
async def test_what_is_no_json_is_told_so(body: bytes) -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        response = await served.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b"7", b'"text"', b"null"])
async def test_json_that_is_no_request_is_told_so(body: bytes) -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        response = await served.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (422, "body")


async def test_halves_of_characters_are_no_text() -> None:
    body = b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}'
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        response = await served.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (422, "body")


async def test_every_error_has_openai_s_shape() -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        wrong = [
            (await served.http.get("/v1/nothing"), 404),
            (await served.http.get(CHAT), 405),
            (await served.http.post("/health"), 405),
            (await served.http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"}), 415),
            (await served.http.post(CHAT, json={}), 422),
        ]
    for response, status in wrong:
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_fault_of_the_server_s_own_says_nothing_of_its_inside() -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        served.server._service.answering.check = lambda request: 1 / 0  # type: ignore[method-assign]
        response = await served.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "zero" not in response.text


async def test_what_was_done_is_counted() -> None:
    backend = ScriptedBackend({"": ["The answer is 42."]})
    async with serving(backend) as served:
        replies = [(await served.ask(branchwise=KEY)).json() for _ in range(2)]
        await served.ask(n=2)
        await served.ask(n=0)
        await served.http.get("/nowhere/1")
        await served.http.get("/nowhere/2")
        response = await served.http.get("/metrics")
        told = samples(response.text)
    assert response.headers["content-type"].startswith("text/plain")
    for kind in ("prompt", "reused", "prefilled", "sampled", "discarded"):
        expected = sum(reply["branchwise"]["usage"][kind] for reply in replies)
        assert told[f'branchwise_tokens_total{{kind="{kind}",strategy="self-consistency"}}'] == expected
    assert told['branchwise_paths_total{kept="true",strategy="self-consistency"}'] == 10
    assert told['branchwise_paths_total{kept="true",strategy="plain"}'] == 2
    assert told['branchwise_questions_total{outcome="complete",strategy="self-consistency"}'] == 2
    assert told['branchwise_question_seconds_count{strategy="self-consistency"}'] == 2
    assert told['branchwise_requests_total{route="/v1/chat/completions",status="200"}'] == 3
    assert told['branchwise_requests_total{route="/v1/chat/completions",status="422"}'] == 1
    assert told['branchwise_requests_total{route="none",status="404"}'] == 2
    assert told["branchwise_questions_running"] == told["branchwise_questions_queued"] == 0
    assert 0 < told["branchwise_serving_cpu_seconds_total"] < 60


async def test_logs_have_no_word_of_what_was_asked_and_said(logs: pytest.LogCaptureFixture) -> None:
    async with serving(ScriptedBackend({"": ["confidential 42"]})) as served:
        turns: JsonValue = [{"role": "user", "content": "confidential question"}]
        for stream in (False, True):
            assert (await served.ask(messages=turns, stream=stream)).status_code == 200
        await served.ask(messages=turns, temperature="confidential heat")
    assert "confidential" not in written(logs)
    requests = [record.__dict__["fields"] for record in logs.records if record.name == "branchwise.access"]
    assert [(fields["method"], fields["route"], fields["status"]) for fields in requests] == [
        ("POST", CHAT, 200), ("POST", CHAT, 200), ("POST", CHAT, 422),
    ]  # fmt: skip


async def test_a_run_belongs_to_the_trace_that_its_request_names() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace = "0af7651916cd43dd8448eb211c80319c"
    backend = ScriptedBackend({"": ["The answer is 42."]})
    async with serving(backend, observer=Tracing(provider), traced=remote_parent) as served:
        for stream in (False, True):
            headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            await served.http.post(CHAT, json=asked(branchwise=KEY, stream=stream), headers=headers)
        await served.ask()
    roots = [span for span in exporter.get_finished_spans() if span.name.startswith("invoke_agent")]
    named = [span.context is not None and f"{span.context.trace_id:032x}" == trace for span in roots]
    assert named == [True, True, False]


async def test_a_server_that_stops_finishes_what_is_under_way() -> None:
    backend = ScriptedBackend({"": [Reply("The answer is 42.", delay=0.1)]})
    async with serving(backend, Limits(questions=2)) as served:
        under_way = [asyncio.create_task(served.ask(branchwise=KEY, stream=stream)) for stream in (False, True)]
        await until(lambda: served.queue.running == 2)
        waiting = asyncio.create_task(served.ask())
        await until(lambda: served.queue.queued == 1)
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: served.queue.draining)
        health = await served.http.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "draining"})
        late = await served.ask()
        for response in (late, await waiting):
            assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
            assert "retry-after" in response.headers
        whole, streamed = await asyncio.gather(*under_way)
        assert whole.json()["branchwise"]["votes"] == {"42": 5.0}
        assert events(streamed.text)[-1]["branchwise"]["votes"] == {"42": 5.0}
        await until(lambda: served.server.should_exit)
        await asyncio.wait_for(served.running, 5)
        with pytest.raises(httpx.TransportError):
            await served.http.get("/health")


async def test_what_takes_too_long_while_stopping_ends_with_its_best_answer() -> None:
    backend = ScriptedBackend({"": ["The answer is 42.", SLOW]})
    async with serving(backend, drain_seconds=0.2) as served:
        key: JsonValue = {"strategy": "self-consistency", "paths": 2}
        asking = [asyncio.create_task(served.ask(branchwise=key, stream=stream)) for stream in (False, True)]
        await until(lambda: served.queue.running == 2)
        signal.raise_signal(signal.SIGTERM)
        whole, streamed = await asyncio.gather(*asking)
        for told in (whole.json()["branchwise"], events(streamed.text)[-1]["branchwise"]):
            assert (told["answer"], told["outcome"]) == ("42", "cancelled")
        assert not backend.running


async def test_what_was_sampled_plainly_by_then_is_told_too() -> None:
    async with serving(slow(), drain_seconds=0.2) as served:
        asking = [asyncio.create_task(served.ask(n=2, stream=stream)) for stream in (False, True)]
        await until(lambda: served.queue.running == 2)
        signal.raise_signal(signal.SIGTERM)
        whole, streamed = await asyncio.gather(*asking)
        for choice in whole.json()["choices"]:
            assert choice["message"]["content"].startswith("The answer is")
            assert choice["finish_reason"] == "length"
        assert events(streamed.text)[-1]["branchwise"]["outcome"] == "cancelled"


async def test_a_second_signal_stops_at_once() -> None:
    backend = slow()
    async with serving(backend, drain_seconds=60) as served:
        asking = asyncio.create_task(served.ask(branchwise=KEY))
        await until(lambda: len(backend.running) == 5)
        signal.raise_signal(signal.SIGINT)
        await until(lambda: served.queue.draining)
        began = time.monotonic()
        signal.raise_signal(signal.SIGINT)
        await until(lambda: not backend.running)
        await asyncio.gather(asking, return_exceptions=True)
    assert time.monotonic() - began < 3


async def test_a_backend_that_cannot_cancel_one_branch_still_stops_all() -> None:
    able = replace(slow().capabilities, per_branch_cancel=False)
    backend = slow(able)
    async with serving(backend) as served:
        _, writer = await raw(served, branchwise=KEY)
        await until(lambda: len(backend.running) == 5)
        await close(writer)
        await until(lambda: not backend.running)


@pytest.mark.parametrize("field", ["paths", "tokens", "seconds", "body_bytes", "questions", "queue_seconds"])
def test_limits_make_sense(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        replace(Limits(), **{field: 0})


def test_a_port_in_use_is_told_before_anything_is_loaded() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(ConfigError, match="in use"):
            listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(ConfigError, match="no host"):
        listen("no such host", 0)
