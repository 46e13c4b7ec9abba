"""Equivalence of mathematical answers, by keys that are computed once for each answer (see keys.py)."""

import asyncio
import atexit
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple, TypeVar

from branchwise.answers.keys import Key, key_of
from branchwise.answers.pool import WorkerPool
from branchwise.answers.process import Kind, Reply

_Request = tuple[str, Kind]
_Value = TypeVar("_Value")

_MAX_CACHED = 10_000  # fingerprints
_MAX_ATTEMPTS = 2  # for an expression without a reply, as each attempt takes the whole time limit


class _NeedsWorkerError(Exception):
    """A fingerprint is not known yet."""


class Reading(NamedTuple):
    """The key of an answer, and whether it is the final one."""

    key: Key
    is_complete: bool
    """False if a part was compared as text because its value took too long."""


class Equivalence:
    """Comparison of answers, with a pool of worker processes that start on first use. Thread-safe."""

    def __init__(self, seconds: float = 5.0, workers: int = 4) -> None:
        """Set the time limit for one expression; beyond it, the expression is compared as text."""
        self._seconds = seconds
        self._pool = WorkerPool(workers)
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(2 * workers, thread_name_prefix="answers")  # they wait for workers
        self._replies: OrderedDict[_Request, Reply] = OrderedDict()
        self._attempts: OrderedDict[_Request, int] = OrderedDict()  # of expressions without a reply
        atexit.register(self.close)

    def same(self, first: str, second: str) -> bool:
        """Return True if two answers are equivalent. The call may block, so run it outside the event loop."""
        return first == second or self.read(first).key.equals(self.read(second).key)

    def read(self, answer: str, seconds: float | None = None) -> Reading:
        """Return the key of an answer within `seconds`. The call may block, so run it outside the event loop."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        return self._read(answer, lambda request: self._reply(request, until))

    async def read_async(self, answer: str, seconds: float | None = None) -> Reading:
        """Return the key of an answer within `seconds`, in a thread if it needs a worker."""
        try:
            return self._read(answer, self._known_reply)
        except _NeedsWorkerError:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self.read, answer, seconds)

    def _read(self, answer: str, reply_to: Callable[[_Request], Reply | None]) -> Reading:
        complete = True

        def evaluate(latex: str, kind: Kind) -> str | None:
            nonlocal complete
            reply = reply_to((latex, kind))
            complete = complete and reply is not None and reply.fingerprint is not None
            return None if reply is None else reply.fingerprint

        return Reading(key_of(answer, evaluate), complete)

    def close(self) -> None:
        """Stop the worker processes."""
        self._pool.close()

    def _known_reply(self, request: _Request) -> Reply | None:
        """Return the cached reply, or None after the last attempt. Raises _NeedsWorkerError without either."""
        with self._lock:
            if self._attempts.get(request, 0) >= _MAX_ATTEMPTS:
                return None
            if (known := self._replies.get(request)) is None:
                raise _NeedsWorkerError
            return known

    def _reply(self, request: _Request, until: float) -> Reply | None:
        """Return the reply to a request, from the cache or from a worker; None without one in time."""
        with contextlib.suppress(_NeedsWorkerError):
            return self._known_reply(request)
        if until <= time.monotonic():
            return None
        reply = self._pool.evaluate(*request, self._seconds, until)
        with self._lock:
            if reply is not None:
                _keep(self._replies, request, reply)
            elif until > time.monotonic():
                _keep(self._attempts, request, self._attempts.get(request, 0) + 1)
        return reply


def _keep(cache: "OrderedDict[_Request, _Value]", key: _Request, value: _Value) -> None:
    cache[key] = value
    while len(cache) > _MAX_CACHED:
        cache.popitem(last=False)


EQUIVALENCE = Equivalence()
"""Shared by the whole process, because starting a worker takes more than half a second."""
