"""The connection to one client: reading the body, detecting a disconnect, and sending events."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NoReturn, TypeVar

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from branchwise.serving.errors import HTTPError, error_reply

Returned = TypeVar("Returned")

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client disconnected, as proxies log it."""
_BODY_SECONDS = 30.0
"""Time limit for receiving a body."""


_MAX_OBJECTS = 5_000  # of a JSON body; validating them takes 15 to 50 ms, in which the event loop stands still


async def read_json(request: Request, max_bytes: int) -> JsonValue:
    """Return the JSON body. Raises HTTPError if it is too large, too slow or not JSON, and ClientDisconnect."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":  # browsers send other types across sites without a preflight request
        raise HTTPError(415, "send JSON, with the header Content-Type: application/json", code="unsupported_media_type")
    data = await read_body(request, max_bytes)
    try:
        value: JsonValue = json.loads(data, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPError(400, f"the body is not JSON: {_json_problem(error)}", code="invalid_json") from error
    return value


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body. Raises HTTPError if it is too large or too slow, and ClientDisconnect.

    A body has too many objects if parsing and validating them would hold up the other requests.
    """
    too_large = HTTPError(413, f"the body is larger than {max_bytes} bytes", code="too_large")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPError(408, "the body did not arrive in time", code="timeout") from None
    if data.count(b"{") > _MAX_OBJECTS:
        raise HTTPError(413, f"the body has more than {_MAX_OBJECTS} objects", code="too_large")
    return bytes(data)


async def run_while_connected(receive: Receive, work: Awaitable[Returned]) -> Returned:
    """Return the result of `work`. Call it after the body was read.

    If the client disconnects first, cancel `work`, wait until it has ended and raise ClientDisconnect.
    """
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(wait_for_disconnect(receive))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, disconnected):
            each.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events. They are closed at once if the client disconnects, and closing waits for their clean-up.

    sse-starlette's response is not used: it cancels the events in a scope that interrupts their clean-up too, so that
    the slot is free before the branches have stopped and the cancelled tokens are missing from the usage.
    """

    media_type = "text/event-stream"

    @classmethod
    async def start(cls, receive: Receive, events: AsyncGenerator[str, None]) -> "EventStream":
        """Return the response once there is a first event. Raises what `events` raises before it, ClientDisconnect."""
        return cls(await run_while_connected(receive, anext(events)), events)

    def __init__(self, first: str, rest: AsyncGenerator[str, None]) -> None:
        self.status_code = HTTPStatus.OK
        self.background = None
        self._first = first
        self._rest = rest
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await run_while_connected(receive, self._send(send))
        except (ClientDisconnect, OSError):
            return
        finally:
            await self._rest.aclose()
            if self.background is not None:
                await self.background()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first.encode(), "more_body": True})
        async for event in self._rest:
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_response(error: Exception) -> JSONResponse:
    """Return the response for a request that was rejected or failed."""
    status, body = error_reply(error)
    headers = dict(error.headers) if isinstance(error, HTTPError) else {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("retry-after", "1")
    return JSONResponse(body, status, headers)


@asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the task of the body once the client has disconnected. Enter it after the request's body was read."""
    task = asyncio.current_task()
    assert task is not None

    async def watch() -> None:
        await wait_for_disconnect(receive)
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client has disconnected, or the reply is complete. Call it after the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json_problem(error: Exception) -> str:
    """Return where the JSON is invalid, without repeating its content."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    return "it nests too deeply" if isinstance(error, RecursionError) else "it has an invalid value"
