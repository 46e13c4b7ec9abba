"""The connection to one client: its body, whether it is still there, and events on their way to it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from http import HTTPStatus
from typing import NoReturn, TypeVar

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from branchwise.serving.errors import Refused, error_body
from branchwise.serving.question import whole
from branchwise.serving.reply import ChatCompletionBody

Returned = TypeVar("Returned")

GONE = 499
"""The status of a request whose client went away: as proxies log it."""
_BODY_SECONDS = 30.0
"""Seconds that a client may take to send its body."""


async def read_json(request: Request, most: int) -> JsonValue:
    """The body, of at most so many bytes. Raises Refused, ClientDisconnect."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what browsers send across sites without asking first is not
        raise Refused(415, "send JSON, with the header Content-Type: application/json", code="unsupported_media_type")
    data = bytearray()
    declared = request.headers.get("content-length", "")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            if declared.isdecimal() and int(declared) > most:
                raise _too_large(most)
            async for part in request.stream():
                data += part
                if len(data) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise Refused(408, "the body did not arrive in time", code="timeout") from None
    try:
        value: JsonValue = json.loads(bytes(data), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {_problem(error)}", code="invalid_json") from error
    return value


async def while_connected(receive: Receive, work: Awaitable[Returned]) -> Returned:
    """What `work` returns; it is cancelled, and over, where the client goes away first. Raises ClientDisconnect.

    The body must have been read.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class EventStream(Response):
    """Server-sent events. Where the client goes away, they are closed at once."""

    media_type = "text/event-stream"

    @classmethod
    async def begun(cls, receive: Receive, events: AsyncGenerator[str, None]) -> "EventStream":
        """The events, once there is a first one. Raises what `events` raise before it, ClientDisconnect."""
        return cls(await while_connected(receive, anext(events)), events)

    def __init__(self, first: str, rest: AsyncGenerator[str, None]) -> None:
        self.status_code, self.background = 200, None
        self._first, self._rest = first, rest
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send(send))
        except (ClientDisconnect, OSError):
            return
        finally:
            await self._rest.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first.encode(), "more_body": True})
        async for event in self._rest:
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def chat_response(reply: ChatCompletionBody | EventStream) -> Response:
    """The response of /v1/chat/completions."""
    if isinstance(reply, EventStream):
        return reply
    return Response(reply.json_text(), media_type="application/json")


def question_response(reply: ChatCompletionBody | EventStream) -> Response:
    """The response of /v1/branchwise."""
    return reply if isinstance(reply, EventStream) else JSONResponse(whole(reply))


def refusal(error: Exception) -> JSONResponse:
    """The response to what could not be answered."""
    status, body = error_body(error)
    headers = dict(error.headers) if isinstance(error, Refused) else {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("retry-after", "1")
    return JSONResponse(body, status, headers)


async def _gone(receive: Receive) -> None:
    """Until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body is larger than {most} bytes", code="too_large")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _problem(error: Exception) -> str:
    """Where it is wrong, without what it says."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    return "it nests too deeply" if isinstance(error, RecursionError) else "it holds what is none"
