"""Connections to servers, of each event loop its own."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import httpx

from branchwise.backends.openai.settings import OpenAISettings

_PATIENCE = 5.0  # seconds that closing waits for another event loop


@dataclass(frozen=True, slots=True)
class Line:
    """One event loop's connections, and how many branches may use them at once."""

    client: httpx.AsyncClient
    turns: asyncio.Semaphore


class Lines:
    """A line for each event loop that asks for one, closed at the latest when its loop shuts down."""

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._open: dict[asyncio.AbstractEventLoop, tuple[Line, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()

    async def here(self) -> Line:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for gone in [one for one in self._open if one.is_closed()]:
                del self._open[gone]
            if loop in self._open:
                return self._open[loop][0]
            line = Line(self._client(), asyncio.Semaphore(self._settings.concurrency))
            keeper = _keep(line.client)
            self._open[loop] = line, keeper
        # A loop that shuts down finishes the generators that were begun in it: asyncio.run closes the line by that.
        await anext(keeper)
        return line

    async def close_here(self) -> None:
        """Close the running loop's line, if there is one; another may be opened."""
        with self._lock:
            found = self._open.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].aclose()

    async def close(self) -> None:
        """Close all of them, those of other loops in their loops."""
        await self.close_here()
        with self._lock:
            others, self._open = self._open, {}
        asked = [
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(keeper.aclose(), loop))
            for loop, (_, keeper) in others.items()
            if loop.is_running()
        ]
        if asked:
            await asyncio.wait(asked, timeout=_PATIENCE)

    def _client(self) -> httpx.AsyncClient:
        settings, key = self._settings, self._settings.key()
        return httpx.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(settings.idle_timeout, connect=settings.connect_timeout, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
        )


async def _keep(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Holds a client open until it is finished."""
    try:
        yield
    finally:
        await client.aclose()
