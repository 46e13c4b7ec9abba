"""uvicorn's HTTP protocol with limits on what one client can hold: connections, headers, and replies it never reads.

uvicorn times out idle connections after a reply. It has no limit for a header that never ends, for a client that
stops reading, or for connections as such: hundreds of them use up all file descriptors, and nobody is answered.
"""

import asyncio
import time
from dataclasses import dataclass

from branchwise.core.errors import MissingExtraError

try:
    from uvicorn.config import Config
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.server import ServerState
except ImportError as error:
    raise MissingExtraError(error.name or "uvicorn", "server") from error

_MOST_CONNECTIONS, _FEWEST_CONNECTIONS = 1024, 16


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of connections to the server."""

    connections: int = _MOST_CONNECTIONS
    """Maximum number. One more takes the place of the oldest connection without a request, or is closed."""
    header_seconds: float = 10.0
    """Maximum number of seconds from the first byte of a connection or request to the end of its header."""
    stall_seconds: float = 30.0
    """Maximum number of seconds that a client may leave a full send buffer unread."""

    @property
    def backlog(self) -> int:
        """Connections that the kernel holds, and that one turn of the event loop may accept."""
        return max(_FEWEST_CONNECTIONS, min(128, self.connections // 2))


def connection_limits() -> ConnectionLimits:
    """Return the limits for this process: half of the file descriptors that it may open are for connections."""
    try:
        import resource
    except ImportError:  # not available on this platform
        return ConnectionLimits()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ConnectionLimits()
    return ConnectionLimits(connections=max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, soft // 2)))


class GuardedProtocol(H11Protocol):
    """One connection, which is closed when it exceeds a limit."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._opened = time.monotonic()
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def has_request(self) -> bool:
        """True from the end of a request's header to the end of its reply."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            waiting = [one for one in self.connections if isinstance(one, GuardedProtocol) and not one.has_request]
            min(waiting, key=lambda one: one._opened).abort()
        if not transport.is_closing():
            self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.has_request:
            self._stop_header_timer()
        elif self._header_timer is None and not self.transport.is_closing():
            self._start_header_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self._limits.stall_seconds, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timer()

    def abort(self) -> None:
        """Close the connection without sending what is left. The request ends as if the client had disconnected."""
        self.connections.discard(self)
        self._stop_timers()
        self.transport.abort()

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(self._limits.header_seconds, self.abort)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _stop_timers(self) -> None:
        self._stop_header_timer()
        self._stop_stall_timer()
