"""Access control before every route, and the count and log of every request."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from branchwise.observability.logs import emit
from branchwise.serving.clients import Client
from branchwise.serving.connection import CLIENT_CLOSED_REQUEST, error_response
from branchwise.serving.errors import HTTPError
from branchwise.serving.hosts import host_of, is_loopback
from branchwise.serving.metrics import Metrics
from branchwise.serving.quotas import Quotas
from branchwise.serving.routes import CLIENT

_PUBLIC_PATHS = ("/health",)
_NO_ROUTE = "none"

log = logging.getLogger("branchwise.access")


class Keys(Protocol):
    """API keys and their owners."""

    def accept(self, authorization: str | None) -> Client | None:
        """Return the owner of the key in an Authorization header; None for any other header."""


class AccessMiddleware:
    """ASGI middleware that checks API keys and host names.

    With `keys`, every request but /health needs one. With `local`, the Host header must be a loopback name, which stops
    a web page from reaching the server under a name of its own (DNS rebinding). Requests are answered within the
    context manager that `traced` returns for their headers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        local: bool,
        metrics: Metrics,
        quotas: Quotas,
        traced: Callable[[Mapping[str, str]], AbstractContextManager[object]] = nullcontext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._keys = keys
        self._local = local
        self._metrics = metrics
        self._quotas = quotas
        self._traced = traced
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = self._clock()
        status: int = CLIENT_CLOSED_REQUEST

        async def send_and_record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            headers = Headers(scope=scope)
            rejection = self._rejection(scope, headers)
            if rejection is None:
                with self._traced(headers):
                    await self._app(scope, receive, send_and_record_status)
            else:
                await error_response(rejection)(scope, receive, send_and_record_status)
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR  # Starlette's outermost middleware sends the response
            raise
        finally:
            self._record(scope, status, self._clock() - start)

    def _rejection(self, scope: Scope, headers: Headers) -> HTTPError | None:
        """Return why the request may not pass; None if it may. The client of its key is added to the scope."""
        if "content-length" in headers and "transfer-encoding" in headers:  # servers disagree on where such a body ends
            message = "send Content-Length or Transfer-Encoding, not both"
            return HTTPError(400, message, code="ambiguous_length", headers={"connection": "close"})
        if self._local and not is_loopback(host_of(headers.get("host", ""))):
            return HTTPError(403, "this server answers only under the name localhost", code="host_not_allowed")
        if self._keys is None or scope["path"] in _PUBLIC_PATHS:
            return None
        client = self._keys.accept(headers.get("authorization"))
        if client is None:
            message = "the API key is missing or wrong; send it as: Authorization: Bearer KEY"
            return HTTPError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        scope[CLIENT] = client
        try:
            self._quotas.count_request(client)
        except HTTPError as error:
            return error
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log a request by its route; unknown paths share one name, because clients choose them freely."""
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self._metrics.count_request(route, status)
        fields = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 3)}
        emit(log, logging.INFO, "request", fields)
