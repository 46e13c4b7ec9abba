"""The HTTP server: uvicorn with a shutdown that lets running questions finish."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

from branchwise.core.errors import ConfigError, MissingExtraError
from branchwise.driver import GRACE_SECONDS
from branchwise.serving.http_protocol import ConnectionLimits, GuardedProtocol, connection_limits
from branchwise.serving.queue import RequestQueue

try:
    import uvicorn
    from starlette.types import ASGIApp
except ImportError as error:
    raise MissingExtraError(error.name or "uvicorn", "server") from error

_FLUSH_SECONDS = 5.0
"""Time for the last answers to reach their clients."""
_SILENT_SECONDS = 60.0
"""Time between two logs of connections that could not be accepted."""

log = logging.getLogger("branchwise.server")


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen yet: clients are refused until the server runs.

    Raises ConfigError if the host is unknown or the port is in use.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError("host", f"{host!r} is not a host", "use an address of this machine") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            "port", f"{host}:{port} is not available ({reason})", "use another port, or 0 for any"
        ) from error
    return bound


class Server(uvicorn.Server):
    """Serves until SIGINT or SIGTERM.

    Then new questions are rejected, and running ones may finish within `drain_seconds`; after that they end with their
    best answer so far. A second signal ends everything at once. `app` must answer questions in turns of `queue`, and
    `stop` must end all running ones with their best answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        queue: RequestQueue,
        stop: Callable[[], None],
        *,
        drain_seconds: float = 30.0,
        connections: ConnectionLimits | None = None,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        limits = connections or connection_limits()
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]  # called like the class
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                backlog=limits.backlog,
                timeout_graceful_shutdown=int(_FLUSH_SECONDS),
            )
        )
        self._queue = queue
        self._stop_running = stop
        self._drain_seconds = drain_seconds
        self._on_start = on_start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._silent_until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._log_quietly)
        await super().startup(sockets)
        self._on_start()

    def _log_quietly(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Log that connections can't be accepted once a minute: asyncio reports it for each, thousands of times."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
            loop.default_exception_handler(context)
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + _SILENT_SECONDS
            log.error("too many open files: new connections have to wait; raise the limit (ulimit -n)")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining in the event loop; uvicorn calls this as a signal handler."""
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Start to drain; a second call stops at once. Call it in the server's event loop."""
        if self._draining is None:
            self._queue.drain()
            self._draining = asyncio.create_task(self._drain())
        else:
            self._draining.cancel()
            self._stop_running()
            self.should_exit = self.force_exit = True

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._queue.wait_idle()
        except TimeoutError:
            self._stop_running()
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS + _FLUSH_SECONDS):
                    await self._queue.wait_idle()
        self.should_exit = True
