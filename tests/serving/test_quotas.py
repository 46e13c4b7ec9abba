"""Quotas of API keys, the file that sets them, web pages of other origins, and the description of the routes."""

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from branchwise.core.errors import ConfigError
from branchwise.serving.key_file import KeyFile
from tests.support.serving_lab import Served, scripted, serving, slow_backend, wait_until

FILE = """
[alice]
key = "sk-alice"
{quota}

[bob]
key = "sk-bob"
"""


def key_file(folder: Path, quota: str = "") -> Path:
    """Write a file with the keys of alice, who has the quota, and bob, who has none."""
    file = folder / "keys.toml"
    file.write_text(FILE.format(quota=quota))
    return file


async def ask(served: Served, name: str, **fields: object) -> httpx.Response:
    """Send a chat request with the key of a client."""
    return await served.http.post(
        "/v1/chat/completions",
        json={"model": "scripted", "messages": [{"role": "user", "content": "q"}], **fields},
        headers={"authorization": f"Bearer sk-{name}"},
    )


async def test_requests_beyond_the_quota_have_to_wait(tmp_path: Path) -> None:
    async with serving(scripted("42"), keys=KeyFile(key_file(tmp_path, "requests_per_minute = 3"))) as served:
        statuses = [(await ask(served, "alice")).status_code for _ in range(7)]
        assert statuses.count(200) in (3, 6)  # 6 if a minute of the clock ended meanwhile
        refused = await ask(served, "alice")
        if refused.status_code == 429:
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await ask(served, "bob")).status_code == 200
        assert (await ask(served, "carol")).status_code == 401


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_beyond_the_quota_have_to_wait(tmp_path: Path, stream: bool) -> None:
    keys = KeyFile(key_file(tmp_path, "tokens_per_minute = 20"))
    async with serving(scripted("word " * 30), keys=keys) as served:
        statuses = [(await ask(served, "alice", stream=stream)).status_code for _ in range(4)]
        assert statuses[0] == 200  # a run that has begun is not stopped
        assert 429 in statuses
        assert (await ask(served, "bob")).status_code == 200


async def test_questions_at_the_same_time_are_limited(tmp_path: Path) -> None:
    backend = slow_backend()
    async with serving(backend, keys=KeyFile(key_file(tmp_path, "questions = 2"))) as served:
        asking = [asyncio.create_task(ask(served, "alice")) for _ in range(2)]
        await wait_until(lambda: served.queue.running == 2)
        assert (await ask(served, "alice")).status_code == 429
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await wait_until(lambda: served.queue.running == 0)
        again = asyncio.create_task(ask(served, "alice"))
        await wait_until(lambda: served.queue.running == 1)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    now = 0.0
    file = key_file(tmp_path)
    keys = KeyFile(file, clock=lambda: now)
    assert keys.accept("Bearer sk-bob") is not None
    file.write_text('[dora]\nkey = "sk-dora"\n')
    assert keys.accept("Bearer sk-bob") is not None  # the file is looked at once a second
    now = 1.5
    assert keys.accept("Bearer sk-bob") is None
    assert keys.accept("Bearer sk-dora") is not None
    for broken in ("[dora", "[dora]\nkey = 7\n", ""):
        file.write_text(broken)
        os.utime(file, ns=(int(now * 1e9), int(now * 1e9)))
        now += 2
        assert keys.accept("Bearer sk-dora") is not None
    file.unlink()
    now += 2
    assert keys.accept("Bearer sk-dora") is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[alice", "cannot be read"),
        ("", "api_key: is empty"),
        ("[alice]\n", "[alice]: has no key"),
        ("alice = 1\n", "[alice]: has no key"),
        ('[alice]\nkey = "a"\nrequests = 3\n', "[alice]: has requests; use key, requests_per_minute"),
        ('[alice]\nkey = "a"\nquestions = 0\n', "[alice], questions: is 0; use a whole number"),
        ('[alice]\nkey = "a"\nquestions = true\n', "questions: is True"),
        ('[alice]\nkey = "a"\n[bob]\nkey = "a"\n', "[bob]: has the key of another entry"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        KeyFile(file)
    assert message in str(raised.value)


async def test_web_pages_of_named_origins_may_read_replies() -> None:
    headers = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    for cors, allowed in (
        (("http://localhost:3000",), "http://localhost:3000"),
        (("*",), "*"),
        (("http://x",), None),
        ((), None),
    ):
        async with serving(scripted("42"), key="sk-1", cors=cors) as served:
            preflight = await served.http.options("/v1/chat/completions", headers={**headers, "authorization": ""})
            reply = await served.http.get("/v1/models", headers={"origin": "http://localhost:3000"})
        assert preflight.headers.get("access-control-allow-origin") == allowed
        assert reply.headers.get("access-control-allow-origin") == allowed
        assert (preflight.status_code == 200) is (allowed is not None)


async def test_routes_are_described_behind_the_key() -> None:
    async with serving(scripted("42"), key="sk-1") as served:
        described = (await served.http.get("/openapi.json")).json()
        async with httpx.AsyncClient(base_url=served.url) as anyone:
            assert (await anyone.get("/openapi.json")).status_code == 401
    assert set(described["paths"]) == {
        "/v1/chat/completions",
        "/v1/branchwise",
        "/v1/models",
        "/v1/models/{name}",
        "/health",
        "/metrics",
    }
    chat = described["components"]["schemas"]["ChatRequest"]
    assert {"model", "messages"} <= set(chat["required"])
    assert "question" in described["components"]["schemas"]["Question"]["properties"]
