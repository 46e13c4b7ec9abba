"""Lines on standard input that are not messages: each gets a reply, and the connection goes on."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from mcp.types import INVALID_REQUEST, PARSE_ERROR
from pydantic import JsonValue

from branchwise.integrations.mcp_server import error_for
from tests.support.mcp_lab import initialize

PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
LONG = "x" * 50_000


def call(**arguments: JsonValue) -> dict[str, JsonValue]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "solve", "arguments": arguments}}


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (json.dumps(call(question="\ud800")), PARSE_ERROR, 7),
        (json.dumps(call(question="q", strategy="\udfff")), PARSE_ERROR, 7),
        (json.dumps({**call(question="a\ud83d"), "id": "one"}), PARSE_ERROR, "one"),
        (json.dumps(call(question={"\ud800": 1})), PARSE_ERROR, 7),
        (json.dumps({**PING, "id": "\udc00"}), PARSE_ERROR, None),
        (json.dumps({**PING, "method": "\udc00"}), PARSE_ERROR, 7),
        ('{"jsonrpc": "2.0", "id": 7', PARSE_ERROR, None),
        ("nonsense", PARSE_ERROR, None),
        ("[" * 100_000, PARSE_ERROR, None),
        ('{"jsonrpc": "2.0", "method": "ping", "id": ' + "9" * 5000 + "}", PARSE_ERROR, None),
        ("[]", INVALID_REQUEST, None),
        ("null", INVALID_REQUEST, None),
        ("3", INVALID_REQUEST, None),
        (json.dumps([PING]), INVALID_REQUEST, None),
        (json.dumps({**PING, "jsonrpc": "1.0"}), INVALID_REQUEST, 7),
        (json.dumps({**PING, "method": 3}), INVALID_REQUEST, 7),
        (json.dumps({**PING, "params": [1]}), INVALID_REQUEST, 7),
        (json.dumps({**PING, "id": None}), INVALID_REQUEST, None),
        (json.dumps({**PING, "id": 1.5}), INVALID_REQUEST, None),
        (json.dumps({**PING, "id": True}), INVALID_REQUEST, None),
        (json.dumps({**PING, "id": [LONG]}), INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "method": "ping", "id": NaN}', INVALID_REQUEST, None),
    ],
    ids=range(22),
)
def test_every_line_that_is_not_a_message_has_a_reply(line: str, code: int, request_id: int | str | None) -> None:
    reply = error_for(line)
    assert reply is not None
    assert (reply.error.code, reply.id) == (code, request_id)
    assert len(reply.model_dump_json()) < 300


@pytest.mark.parametrize(
    "message",
    [
        PING,
        {**PING, "id": "seven"},
        {**PING, "id": 10**30},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 7, "result": {}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "no"}},
        call(question="\U0001f600 a whole character"),
    ],
)
def test_messages_pass(message: dict[str, JsonValue]) -> None:
    assert error_for(json.dumps(message)) is None


def test_blank_lines_pass() -> None:
    assert error_for("\n") is None


async def test_a_process_answers_every_line(tiny_model_folder: Path) -> None:
    options = ["--model", str(tiny_model_folder), "--device", "cpu", "--paths", "2", "--max-tokens", "4"]
    command = [sys.executable, "-m", "branchwise.cli.main", "mcp", *options, "--temperature", "1", "--task", "text"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 20)
    assert process.stdin is not None
    assert process.stdout is not None

    async def ask(line: bytes) -> dict[str, JsonValue]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + b"\n")
        reply = await asyncio.wait_for(process.stdout.readline(), 60)
        assert len(reply) < 4000
        answered: dict[str, JsonValue] = json.loads(reply)
        return answered

    assert "result" in await ask(json.dumps(initialize()).encode())
    process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n\n')
    assert "error" in await ask(json.dumps(call(question="\ud800")).encode())
    assert "error" in await ask(json.dumps({**PING, "id": "\ud800"}).encode())
    assert "error" in await ask(b"\xff\xfe{")
    assert "error" in await ask(json.dumps({**PING, "method": LONG}).encode())
    assert "error" in await ask(json.dumps({**PING, "method": "prompts/get", "params": {"name": LONG}}).encode())
    for wrong in (call(question="q", strategy=LONG), call(question=[LONG]), {**PING, "method": "tools/call"}):
        reply = await ask(json.dumps(wrong).encode())
        assert "error" in reply or "isError" in json.dumps(reply)
    assert await ask(json.dumps(PING).encode()) == {"jsonrpc": "2.0", "id": 7, "result": {}}
    answer = await ask(json.dumps(call(question="q", paths=2)).encode())
    assert "usage" in json.dumps(answer)
    process.stdin.close()
    _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors
