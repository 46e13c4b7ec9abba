"""Guard of a route that takes JSON messages in sessions (MCP over HTTP): the body, the methods and the sessions."""

from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from branchwise.serving.clients import ANYONE, Client
from branchwise.serving.connection import error_response, read_body
from branchwise.serving.errors import HTTPError
from branchwise.serving.routes import CLIENT

_SESSION = "mcp-session-id"
_MAX_SESSIONS = 256
"""Maximum number of sessions of one client."""


class MessageGuard:
    """ASGI middleware for one path. Replies in JSON to what it rejects.

    A body must arrive whole, in time, and be a message: `check` returns the JSON reply to any other one. GET is
    refused: it would hold a connection for messages that never come. A client has a limited number of sessions: a
    further one ends the session that it has not used for the longest time. Nobody can use another client's session.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str,
        max_body_bytes: int,
        check: Callable[[str], str | None],
        max_sessions: int = _MAX_SESSIONS,
    ) -> None:
        self._app = app
        self._path = path
        self._max_body_bytes = max_body_bytes
        self._check = check
        self._max_sessions = max_sessions
        self._sessions = dict[str, OrderedDict[str, int]]()  # by client: requests under way, by session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] not in ("POST", "DELETE"):
                message = "the method is not allowed; use POST or DELETE"
                raise HTTPError(405, message, code="method_not_allowed", headers={"allow": "POST, DELETE"})
            body = await read_body(Request(scope, receive), self._max_body_bytes)
            error = self._check(body.decode(errors="replace"))
            if error is not None:
                await Response(error, 400, media_type="application/json")(scope, receive, send)
                return
            await self._in_session(scope, _after(body, receive), send)
        except HTTPError as error:
            await error_response(error)(scope, receive, send)
        except ClientDisconnect:
            return

    async def _in_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and keep account of its session."""
        client: Client = scope.get(CLIENT, ANYONE)
        sessions = self._sessions.setdefault(client.name, OrderedDict())
        name = Headers(scope=scope).get(_SESSION)
        if name is not None and name not in sessions:
            raise HTTPError(404, "the session is not known; start a new one", code="not_found")
        ended = scope["method"] == "DELETE"

        async def watch(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                opened = Headers(raw=message.get("headers", [])).get(_SESSION)
                if name is None and opened is not None and message["status"] < 400:
                    sessions[opened] = 0  # the client may use it as soon as it has the header
                ended = ended or message["status"] == 404
            await send(message)

        if name is not None:
            sessions[name] += 1
            sessions.move_to_end(name)
        try:
            await self._app(scope, receive, watch)
        finally:
            if name is not None and name in sessions:
                sessions[name] -= 1
                if ended:
                    del sessions[name]
        if len(sessions) > self._max_sessions:
            await self._end_oldest(sessions, scope)

    async def _end_oldest(self, sessions: OrderedDict[str, int], scope: Scope) -> None:
        """End sessions without a request that are beyond the limit."""
        idle = [name for name, requests in sessions.items() if not requests]
        for name in idle[: len(sessions) - self._max_sessions]:
            del sessions[name]
            kept = [(field, value) for field, value in scope["headers"] if field in (b"host", b"origin")]
            headers = [*kept, (_SESSION.encode(), name.encode())]
            await self._app({**scope, "method": "DELETE", "headers": headers}, _after(b"", _nothing), _ignore)


def _after(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that starts with the body, which was read already."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _ignore(message: Message) -> None:
    """Drop the reply of a request that nobody sent."""
