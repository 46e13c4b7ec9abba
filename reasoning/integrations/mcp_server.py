"""MCP server that answers every line it gets and repeats little of what it got.

The `mcp` package drops a line that is not a message, so that its sender waits for ever, and puts whole names and values
into errors.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import BinaryIO

import anyio
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import JsonValue, ValidationError

from branchwise.chat.errors import MAX_MESSAGE, without_middle

_CALL_ERROR = "Error executing tool"


class AnsweringServer(MCPServer[object]):
    """Answers lines that are not messages with an error, instead of dropping them."""

    async def run_stdio_async(self) -> None:
        """Serve over standard input and output until the input ends."""
        with _standard_input() as source:
            lines = _Lines(anyio.wrap_file(TextIOWrapper(source, encoding="utf-8", errors="replace")))
            async with stdio_server(lines) as (read, write):  # type: ignore[arg-type]  # it only iterates
                lines.replies = write
                options = self._lowlevel_server.create_initialization_options()
                await self._lowlevel_server.run(read, write, options)


class _Lines:
    """The lines of a file that are messages. The others are answered with an error."""

    def __init__(self, source: anyio.AsyncFile[str]) -> None:
        self.replies: anyio.abc.ObjectSendStream[SessionMessage]
        """Set it before the first line is read."""
        self._source = source

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._source:
            reply = error_for(line)
            if reply is not None:
                await self.replies.send(SessionMessage(reply))
            elif line.strip():
                yield line


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    """Return standard input, which nothing else in the process reads meanwhile."""
    private, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        yield os.fdopen(private, "rb", closefd=False)  # a thread may still read it at the end
    finally:
        os.dup2(private, 0)


def error_for(line: str) -> JSONRPCError | None:
    """Return the reply to a line that is not a message; None for a message, and for a blank line.

    The reply has the id of the request if one can be read.
    """
    if not line.strip():
        return None
    try:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        is_json = error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid"
    else:
        is_json = True
        if not _has_invalid_id(json.loads(line)):
            return None
    value = _parsed(line)
    if is_json:
        return _error(value, INVALID_REQUEST, "Invalid request: it is not a JSON-RPC 2.0 message")
    problem = "it is not JSON" if value is None else "a text in it has half a character (a lone surrogate)"
    return _error(value, PARSE_ERROR, f"Parse error: {problem}")


def error_text(line: str) -> str | None:
    """Return the reply to a line that is not a message as JSON; None for a message, and for a blank line."""
    reply = error_for(line)
    return None if reply is None else reply.model_dump_json(by_alias=True, exclude_unset=True)


def _parsed(line: str) -> JsonValue:
    """Return the JSON value of a line, lone surrogates included; None for any other line."""
    try:
        value: JsonValue = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value


def _has_invalid_id(value: JsonValue) -> bool:
    """True for a request with an id that no reply can carry; the `mcp` package reads it as a notification."""
    return isinstance(value, dict) and "method" in value and "id" in value and _id_of(value) is None


def _id_of(value: JsonValue) -> RequestId | None:
    """Return the id of a request; None if it has none that a reply can carry."""
    found = value.get("id") if isinstance(value, dict) else None
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    is_text = isinstance(found, str) and not any("\ud800" <= character <= "\udfff" for character in found)
    return found if is_text else None  # type: ignore[return-value]  # `is_text` says that it is a str


def _error(value: JsonValue, code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=_id_of(value), error=ErrorData(code=code, message=message))


async def shorten_errors(ctx: ServerRequestContext[object, object], call_next: CallNext) -> HandlerResult:
    """Answer a message. An error repeats only a part of a long name or value from it."""
    try:
        result = await call_next(ctx)
    except MCPError as error:
        data = error.data if len(str(error.data)) <= MAX_MESSAGE else None
        raise MCPError(error.code, without_middle(error.message), data) from error
    except ValidationError:
        raise
    except ValueError as error:  # an unknown prompt; the package would log all of it
        raise MCPError(INVALID_PARAMS, without_middle(str(error))) from error
    if isinstance(result, dict) and result.get("isError"):
        return {**result, "content": [_short(part["text"]) for part in result["content"]]}
    return result


def _short(text: str) -> dict[str, str]:
    """Return the content of a failed call. Errors of the tool repeat little; another one names an unknown tool."""
    length = MAX_MESSAGE if text.startswith(_CALL_ERROR) else MAX_MESSAGE // 3
    return {"type": "text", "text": without_middle(text, length)}
