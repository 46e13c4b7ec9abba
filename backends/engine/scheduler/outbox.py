"""Events on their way from the step loop's thread to the event loops that asked."""

import asyncio
import contextlib
from collections.abc import Sequence

from branchwise.backends.base import Scores
from branchwise.backends.engine.scheduler.jobs import Job, ScoreJob, StartJob
from branchwise.backends.stream import BranchEvent, Broken, Extension
from branchwise.core.errors import BackendError
from branchwise.core.usage import Usage


class Outbox:
    """Collects a step's events; one wake-up per event loop and step, however many branches run."""

    def __init__(self) -> None:
        self._pending: dict[asyncio.AbstractEventLoop, list[tuple[Extension, BranchEvent]]] = {}

    def put(self, extension: Extension, event: BranchEvent) -> None:
        self._pending.setdefault(extension.loop, []).append((extension, event))

    def flush(self) -> list[Extension]:
        """Deliver everything; the extensions whose event loop is gone."""
        orphans: list[Extension] = []
        for loop, items in self._pending.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop is closed: nobody waits any more
                orphans.extend(extension for extension, _ in items)
        self._pending.clear()
        return orphans


def _deliver(items: Sequence[tuple[Extension, BranchEvent]]) -> None:
    for extension, event in items:
        extension.deliver(event)


def refuse(job: Job, error: BackendError) -> None:
    """Fail a job that never came in. Called in its event loop."""
    if isinstance(job, StartJob):
        for branch in job.open():
            branch.done = True
            branch.extension.deliver(Broken(branch.copy, error, Usage()))
    elif isinstance(job, ScoreJob):
        _resolve(job, error)


def answer(job: ScoreJob, result: Scores | BackendError) -> None:
    """Hand over what came of a score."""
    if job.future is not None:
        with contextlib.suppress(RuntimeError):  # the asker's event loop is closed: nobody waits any more
            job.future.get_loop().call_soon_threadsafe(_resolve, job, result)


def _resolve(job: ScoreJob, result: Scores | BackendError) -> None:
    if job.future is None or job.future.done():
        return
    if isinstance(result, BackendError):
        job.future.set_exception(result)
    else:
        job.future.set_result(result)
