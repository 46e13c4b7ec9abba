"""Requests on their way from any thread to the step loop's."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from branchwise.backends.engine.failures import closed
from branchwise.backends.engine.scheduler.jobs import Job, LiveBranch
from branchwise.backends.engine.scheduler.outbox import refuse

_TURNS = 3
"""Of an event loop: tasks that one event wakes reach a backend within so many."""


class Taken(NamedTuple):
    """What has come in."""

    jobs: list[Job]
    cancelled: list[LiveBranch]
    forgotten: list[tuple[int, ...] | None]
    closing: bool


class Inbox:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._cancelled: deque[LiveBranch] = deque()
        self._forgotten: deque[tuple[int, ...] | None] = deque()
        self._closing = False
        self._together: dict[asyncio.AbstractEventLoop, list[Job]] = {}

    def submit(self, job: Job) -> None:
        """Called in an event loop; what its tasks submit at the same moment comes in at the same moment.

        So branches that are asked for together start in the same step, and a run is the same again: a step of
        other rows rounds otherwise. Raises BackendError when the engine is closed.
        """
        if self._closing:
            raise closed()
        loop = asyncio.get_running_loop()
        together = self._together.setdefault(loop, [])
        together.append(job)
        if len(together) == 1:
            loop.call_soon(self._send, loop, _TURNS)

    def _send(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        if turns:
            loop.call_soon(self._send, loop, turns - 1)
            return
        jobs = self._together.pop(loop)
        with self._wake:
            if not self._closing:
                self._jobs.extend(jobs)
                self._wake.notify()
                return
        for job in jobs:
            refuse(job, closed())

    def cancel(self, branch: LiveBranch) -> None:
        with self._wake:
            self._cancelled.append(branch)
            self._wake.notify()

    def forget(self, paths: Iterable[tuple[int, ...]] | None) -> None:
        """Let these paths go first when room is needed; None: drop all that nothing runs on, now."""
        with self._wake:
            self._forgotten.extend([None] if paths is None else paths)
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()

    def take(self, *, wait: bool) -> Taken:
        """Everything that has come in since the last time; if `wait`, something."""
        with self._wake:
            while wait and not (self._jobs or self._cancelled or self._forgotten or self._closing):
                self._wake.wait()
            taken = Taken(list(self._jobs), list(self._cancelled), list(self._forgotten), self._closing)
            self._jobs.clear()
            self._cancelled.clear()
            self._forgotten.clear()
        return taken
