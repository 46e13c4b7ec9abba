"""Bodies, methods and sessions of MCP over HTTP."""

import asyncio
import json

import httpx
import pytest
from pydantic import JsonValue

from branchwise.chat.limits import Limits
from branchwise.serving.access import APIKeys
from branchwise.serving.clients import Client
from branchwise.serving.message_guard import MessageGuard
from tests.support.mcp_lab import MESSAGE_HEADERS, initialize, mcp_over_http
from tests.support.talks import Talk

RIGHT = ["The answer is 42."]
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
LONG = "x" * 50_000


async def session(http: httpx.AsyncClient, url: str) -> str:
    """Return the name of a new session."""
    opened = await http.post(url, json=initialize(), headers=MESSAGE_HEADERS)
    assert opened.status_code == 200
    return opened.headers["mcp-session-id"]


async def ping(http: httpx.AsyncClient, url: str, name: str) -> int:
    """Return the status of a message of the session."""
    return (await http.post(url, json=PING, headers={**MESSAGE_HEADERS, "mcp-session-id": name})).status_code


async def test_a_new_session_ends_the_one_unused_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MessageGuard.__init__, "__kwdefaults__", {"max_sessions": 4})
    async with mcp_over_http(Talk(RIGHT)) as url, httpx.AsyncClient() as http:
        names = [await session(http, url) for _ in range(4)]
        assert await ping(http, url, names[0]) == 200
        names.append(await session(http, url))
        assert [await ping(http, url, name) for name in names] == [200, 404, 200, 200, 200]


async def test_a_session_belongs_to_its_client() -> None:
    keys = APIKeys({"a": Client("alice"), "b": Client("bob")})
    async with mcp_over_http(Talk(RIGHT), keys=keys) as url:
        alice = httpx.AsyncClient(headers={"authorization": "Bearer a"})
        bob = httpx.AsyncClient(headers={"authorization": "Bearer b"})
        async with alice, bob:
            name = await session(alice, url)
            assert await ping(bob, url, name) == 404
            assert (await bob.delete(url, headers={"mcp-session-id": name})).status_code == 404
            assert await ping(alice, url, name) == 200
            assert (await alice.delete(url, headers={"mcp-session-id": name})).status_code == 200
            assert await ping(alice, url, name) == 404


async def test_methods_that_would_hold_a_connection_are_refused() -> None:
    async with mcp_over_http(Talk(RIGHT)) as url, httpx.AsyncClient() as http:
        for method in ("GET", "PUT", "PATCH"):
            refused = await http.request(method, url, headers={"accept": "text/event-stream"})
            assert (refused.status_code, refused.headers["allow"]) == (405, "POST, DELETE")
        listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {}}
        modern = {**MESSAGE_HEADERS, "mcp-protocol-version": "2026-07-28"}
        assert (await http.post(url, json=listen, headers=modern)).status_code in (400, 404)


async def test_bodies_are_limited_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchwise.serving.connection._BODY_SECONDS", 0.5)
    async with mcp_over_http(Talk(RIGHT), Limits(body_bytes=50_000)) as url, httpx.AsyncClient() as http:
        large = await http.post(url, content=b" " * 50_001, headers=MESSAGE_HEADERS)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
        many = await http.post(url, content=b"{" * 20_001, headers=MESSAGE_HEADERS)
        assert (many.status_code, many.json()["error"]["code"]) == (413, "too_large")
        target = httpx.URL(url)
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28", "1999-01-01", LONG[:2000]])
@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "1", "null", "{}", '"x"', "[" * 40_000, '{"a":' * 3000, "\ud800", '{"id": NaN}'),
        {**PING, "id": "\ud800"},
        {**PING, "id": None},
        {**PING, "id": 1.5},
        {**PING, "method": "\udfff"},
        {**PING, "method": LONG},
        {**PING, "jsonrpc": LONG},
        {**PING, "params": {"_meta": {"progressToken": "\ud800"}}},
        {**PING, "method": "tools/call", "params": {"name": LONG}},
        {**PING, "method": "tools/call", "params": {"name": "solve", "arguments": {"question": "\ud800"}}},
        {**PING, "method": "tools/call", "params": {"name": "solve", "arguments": {"question": "q", "task": LONG}}},
        {**PING, "method": "tools/call", "params": {"name": "solve", "arguments": {"question": [LONG], "seed": LONG}}},
        {**PING, "method": "prompts/get", "params": {"name": LONG}},
        {**PING, "method": "resources/read", "params": {"uri": f"x:{LONG}"}},
    ],
    ids=range(24),
)
async def test_malformed_messages_get_short_replies(body: JsonValue, version: str) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode("utf-8", "surrogatepass")
    async with mcp_over_http(Talk(RIGHT)) as url, httpx.AsyncClient() as http:
        name = await session(http, url)
        headers = {**MESSAGE_HEADERS, "mcp-session-id": name, "mcp-protocol-version": version}
        reply = await http.post(url, content=data, headers=headers)
        assert reply.status_code < 500
        assert len(reply.content) < 1000
        assert await ping(http, url, name) == 200
