"""Admission of questions: a fixed number is answered at the same time, some wait, and further ones are rejected."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from branchwise.chat.limits import Limits
from branchwise.chat.turn import Charge, free_turn
from branchwise.serving.errors import HTTPError

_MIN_RETRY_SECONDS = 1
_MAX_RETRY_SECONDS = 60
_MEAN_WEIGHT = 0.2  # of the latest question in the running mean of their durations


class RequestQueue:
    """First come, first served. Use it in one event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.running = 0
        self.draining = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when the number of running or waiting questions has changed."""
        self._limits = limits
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_seconds = 1.0  # duration of a question
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def queued(self) -> int:
        """Return the number of waiting questions."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and occupy it. Raises HTTPError: 429 if the queue is full or slow, 503 while draining."""
        await self._acquire()
        start = self._clock()
        try:
            yield
        finally:
            self._mean_seconds += _MEAN_WEIGHT * (self._clock() - start - self._mean_seconds)
            self._release()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Charge]:
        """Wait for a slot and occupy it, as `slot` does. The run's tokens are charged to nobody."""
        async with self.slot(), free_turn() as charge:
            yield charge

    def drain(self) -> None:
        """Reject the waiting questions and all new ones; running questions go on."""
        self.draining = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(_draining_error())
        self.on_change()

    async def wait_idle(self) -> None:
        """Wait until no question is running."""
        await self._idle.wait()

    async def _acquire(self) -> None:
        if self.draining:
            raise _draining_error()
        if self.running < self._limits.questions:
            self._occupy()
            return
        if len(self._waiting) >= self._limits.queue:
            raise self._busy_error("the queue is full")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self.on_change()
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await place
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
                self.on_change()
            elif place.done() and not place.cancelled() and place.exception() is None:
                self._release()  # the slot was assigned just before the wait ended
            if isinstance(error, TimeoutError):
                raise self._busy_error(f"no slot was free within {self._limits.queue_seconds:g} seconds") from None
            raise

    def _occupy(self) -> None:
        self.running += 1
        self._idle.clear()
        self.on_change()

    def _release(self) -> None:
        """Free a slot and assign it to the next waiting question."""
        self.running -= 1
        while self._waiting and self.running < self._limits.questions:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self._occupy()
                waiting.set_result(None)
        if not self.running:
            self._idle.set()
        self.on_change()

    def _busy_error(self, reason: str) -> HTTPError:
        ahead = (len(self._waiting) + self.running) / self._limits.questions
        seconds = min(max(math.ceil(ahead * self._mean_seconds), _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)
        return HTTPError(
            429,
            f"the server is busy: {reason}; try again in {seconds} s",
            code="busy",
            headers={"retry-after": str(seconds)},
        )


def _draining_error() -> HTTPError:
    message = "the server is shutting down; send the request to another one"
    return HTTPError(503, message, code="draining", headers={"retry-after": "5"})
