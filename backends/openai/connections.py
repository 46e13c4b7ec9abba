"""HTTP connections to the servers, separate for each event loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import httpx

from branchwise.backends.openai.settings import OpenAISettings

_CLOSE_SECONDS = 5.0
"""Seconds that closing waits for other event loops."""


@dataclass(frozen=True, slots=True)
class LoopConnections:
    """Connections of one event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    """Limits the branches that run at once."""


class Connections:
    """Connections for each event loop that requests some, closed at the latest when their loop shuts down."""

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._open: dict[asyncio.AbstractEventLoop, tuple[LoopConnections, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()

    async def current(self) -> LoopConnections:
        """Return the running event loop's connections, opened on first use."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for closed in [one for one in self._open if one.is_closed()]:
                del self._open[closed]
            if loop in self._open:
                return self._open[loop][0]
            connections = LoopConnections(self._new_client(), asyncio.Semaphore(self._settings.concurrency))
            closer = _close_at_end(connections.client)
            self._open[loop] = connections, closer
        # A loop that shuts down finishes the asynchronous generators that were started in it, so that
        # asyncio.run closes the client.
        await anext(closer)
        return connections

    async def close_current(self) -> None:
        """Close the running event loop's connections, if there are any. They can be opened again."""
        with self._lock:
            found = self._open.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].aclose()

    async def close(self) -> None:
        """Close all connections, each in its own event loop."""
        await self.close_current()
        with self._lock:
            others, self._open = self._open, {}
        closing = [
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closer.aclose(), loop))
            for loop, (_, closer) in others.items()
            if loop.is_running()
        ]
        if closing:
            await asyncio.wait(closing, timeout=_CLOSE_SECONDS)

    def _new_client(self) -> httpx.AsyncClient:
        settings, key = self._settings, self._settings.key()
        return httpx.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(settings.idle_timeout, connect=settings.connect_timeout, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
        )


async def _close_at_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Yield once, and close the client when the generator is finished."""
    try:
        yield
    finally:
        await client.aclose()
