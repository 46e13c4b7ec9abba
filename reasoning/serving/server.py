"""The HTTP server: uvicorn, stopped without losing an answer."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from branchwise.core.errors import ConfigError, MissingExtraError
from branchwise.driver import GRACE_SECONDS
from branchwise.serving.app import Service

try:
    import uvicorn
    from fastapi import FastAPI
except ImportError as error:
    raise MissingExtraError(error.name or "uvicorn", "server") from error

_FLUSH = 5.0
"""Seconds in which the last answers reach their clients."""
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound and not open yet: clients are refused until the server runs. Raises ConfigError."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError("host", f"{host!r} is no host", "use an address of this machine") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError("port", f"{host}:{port} can't be had ({reason})", "use another one, or 0 for any") from error
    return bound


class Server(uvicorn.Server):
    """Serves until a signal comes. Then nobody is let in any more, and what is under way goes on for `drain_seconds`;
    what is not done by then ends with its best answer so far. A second signal ends everything at once.

    `service` is what stands behind `app`.
    """

    def __init__(
        self,
        service: Service,
        app: FastAPI,
        *,
        drain_seconds: float = 30.0,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=int(_FLUSH),
            )
        )
        self._service, self._seconds, self._on_start = service, drain_seconds, on_start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Stop in order; called again, at once. Call it in the server's event loop."""
        if self._draining is None:
            self._service.queue.drain()
            self._draining = asyncio.create_task(self._drain())
        else:
            self._draining.cancel()
            self._service.answering.stop()
            self.should_exit = self.force_exit = True

    async def _drain(self) -> None:
        queue, answering = self._service.queue, self._service.answering
        try:
            async with asyncio.timeout(self._seconds):
                await queue.idle()
        except TimeoutError:
            answering.stop()
            with suppress(TimeoutError):  # a client that takes nothing holds its turn
                async with asyncio.timeout(GRACE_SECONDS + _FLUSH):
                    await queue.idle()
        self.should_exit = True
