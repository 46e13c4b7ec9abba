"""What a run is given besides its questions."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from branchwise.backends.base import Backend
from branchwise.core.budget import Budget
from branchwise.core.path import Path
from branchwise.driver.observe import Observer
from branchwise.driver.stop import Stop
from branchwise.prompts.task import Task

Verifier = Callable[[Path], float | Awaitable[float]]
"""Scores a path. A plain function is called in a thread of its own, for one path at a time; an async one
is awaited, for all paths at once."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything a run needs besides its questions."""

    backend: Backend
    task: Task
    budget: Budget
    seed: int
    verifier: Verifier | None
    observer: Observer | None
    stop: Stop
    clock: Callable[[], float] = time.monotonic  # seconds
