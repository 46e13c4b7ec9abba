"""Requests, cancellations and cache hints on their way from any thread to the step loop's."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.failures import closed_error
from branchwise.backends.engine.scheduler.output_queue import refuse
from branchwise.backends.engine.scheduler.requests import Request

_BATCHING_TURNS = 3
"""Turns of an event loop within which all tasks that one event wakes have called a backend."""


class Inputs(NamedTuple):
    """Everything that arrived since the last step."""

    requests: list[Request]
    cancelled: list[EngineBranch]
    released: list[tuple[int, ...]]  # paths whose tokens may be evicted first
    clear: bool  # evict everything that is not pinned
    closing: bool


class InputQueue:
    """Inputs of the step loop. Safe to use from any thread."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._requests: deque[Request] = deque()
        self._cancelled: deque[EngineBranch] = deque()
        self._released: deque[tuple[int, ...]] = deque()
        self._clear = False
        self._closing = False
        self._batched: dict[asyncio.AbstractEventLoop, list[Request]] = {}

    def submit(self, request: Request) -> None:
        """Add a request, together with those that other tasks of the event loop submit in the same turns.

        Their branches then start in the same step. This makes runs repeatable: a step with other rows rounds
        differently. Raises BackendError when the engine is closed.
        """
        if self._closing:
            raise closed_error()
        loop = asyncio.get_running_loop()
        batched = self._batched.setdefault(loop, [])
        batched.append(request)
        if len(batched) == 1:
            loop.call_soon(self._send, loop, _BATCHING_TURNS)

    def _send(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        if turns:
            loop.call_soon(self._send, loop, turns - 1)
            return
        requests = self._batched.pop(loop)
        with self._wake:
            if not self._closing:
                self._requests.extend(requests)
                self._wake.notify()
                return
        for request in requests:
            refuse(request, closed_error())

    def cancel(self, branch: EngineBranch) -> None:
        with self._wake:
            self._cancelled.append(branch)
            self._wake.notify()

    def release(self, paths: Iterable[tuple[int, ...]]) -> None:
        """Let the tokens of these paths be evicted first."""
        with self._wake:
            self._released.extend(paths)
            self._wake.notify()

    def clear(self) -> None:
        """Evict everything that no running branch needs."""
        with self._wake:
            self._clear = True
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()

    def take(self, *, wait: bool) -> Inputs:
        """Return and remove everything that arrived; with `wait`, block until something has."""
        with self._wake:
            while wait and not self._has_inputs():
                self._wake.wait()
            inputs = Inputs(
                list(self._requests), list(self._cancelled), list(self._released), self._clear, self._closing
            )
            self._requests.clear()
            self._cancelled.clear()
            self._released.clear()
            self._clear = False
        return inputs

    def _has_inputs(self) -> bool:
        return bool(self._requests or self._cancelled or self._released or self._clear or self._closing)
