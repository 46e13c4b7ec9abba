"""The gate before every route: who may come in; what was asked is counted and logged."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from branchwise.observability.logs import emit
from branchwise.serving.connection import GONE, refusal
from branchwise.serving.errors import Refused
from branchwise.serving.keys import Keys, host_of, is_loopback
from branchwise.serving.metrics import Metrics

_OPEN = ("/health",)
_NO_ROUTE = "none"

log = logging.getLogger("branchwise.access")


class Gate:
    """ASGI middleware. With `keys`, requests need one, but for /health; with `local`, they must name this machine as
    their host: a page in a browser can't have been led here by a name of its own. Each is answered within `traced`,
    which is given its headers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        local: bool,
        metrics: Metrics,
        traced: Callable[[Mapping[str, str]], AbstractContextManager[object]] = nullcontext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._keys, self._local, self._metrics = app, keys, local, metrics
        self._traced, self._clock = traced, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = self._clock(), GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            headers = Headers(scope=scope)
            refused = self._refusal(scope["path"], headers)
            if refused is None:
                with self._traced(headers):
                    await self._app(scope, receive, noting)
            else:
                await refusal(refused)(scope, receive, noting)
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR  # it is answered further out
            raise
        finally:
            self._note(scope, status, self._clock() - began)

    def _refusal(self, path: str, headers: Headers) -> Refused | None:
        if self._local and not is_loopback(host_of(headers.get("host", ""))):
            return Refused(403, "this server answers as localhost alone", code="host_not_allowed")
        if self._keys is None or path in _OPEN or self._keys.accept(headers.get("authorization")):
            return None
        message = "the API key is missing or wrong; send it as: Authorization: Bearer KEY"
        return Refused(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Paths that have no route are not named: anybody can make up any number of them."""
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self._metrics.request(route, status)
        fields = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 3)}
        emit(log, logging.INFO, "request", fields)
