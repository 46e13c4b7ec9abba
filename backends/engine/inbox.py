"""Requests on their way from any thread to the step loop's."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from branchwise.backends.engine.jobs import Job, LiveBranch
from branchwise.backends.engine.trouble import closed


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

    def submit(self, job: Job) -> None:
        """Raises BackendError when the engine is closed."""
        with self._wake:
            if self._closing:
                raise closed()
            self._jobs.append(job)
            self._wake.notify()

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
