"""Whose turn it is: so many questions are answered at a time, some wait, and the rest are turned away."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from branchwise.serving.errors import Refused
from branchwise.serving.limits import Limits

_RETRY = (1, 60)  # seconds: the soonest and the latest that a client is told to come again
_WEIGHT = 0.2  # of the latest question in the running mean of their seconds


class Queue:
    """First come, first served. All of it in one event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.running = 0
        self.draining = False
        self._limits, self._clock = limits, clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean = 1.0  # seconds that a question takes
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside, it is one's turn. Raises Refused: 429 where there is no room or it took too long, 503 while
        draining."""
        await self._come()
        began = self._clock()
        try:
            yield
        finally:
            self._mean += _WEIGHT * (self._clock() - began - self._mean)
            self._leave()

    def drain(self) -> None:
        """Nobody comes any more, and who waits is turned away; those whose turn it is go on."""
        self.draining = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(_draining())

    async def idle(self) -> None:
        """Until it is nobody's turn."""
        await self._idle.wait()

    async def _come(self) -> None:
        if self.draining:
            raise _draining()
        if self.running < self._limits.questions:
            self._begin()
            return
        if len(self._waiting) >= self._limits.queue:
            raise self._full("too many questions wait already")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await place
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
            elif place.done() and not place.cancelled() and place.exception() is None:
                self._leave()  # its turn had come
            if isinstance(error, TimeoutError):
                raise self._full(f"it was not its turn within {self._limits.queue_seconds:g} seconds") from None
            raise

    def _begin(self) -> None:
        self.running += 1
        self._idle.clear()

    def _leave(self) -> None:
        """The next one's turn."""
        self.running -= 1
        while self._waiting and self.running < self._limits.questions:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self._begin()
                waiting.set_result(None)
        if not self.running:
            self._idle.set()

    def _full(self, why: str) -> Refused:
        ahead = (len(self._waiting) + self.running) / self._limits.questions
        seconds = min(max(math.ceil(ahead * self._mean), _RETRY[0]), _RETRY[1])
        return Refused(
            429, f"the server is busy: {why}; try again in {seconds} s",
            code="busy", headers={"retry-after": str(seconds)},
        )  # fmt: skip


def _draining() -> Refused:
    return Refused(503, "the server is about to stop; ask another one", code="draining", headers={"retry-after": "5"})
