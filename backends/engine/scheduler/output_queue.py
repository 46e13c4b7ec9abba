"""Events and scores on their way from the step loop's thread to the event loops of the callers."""

import asyncio
import contextlib
from collections.abc import Sequence

from branchwise.backends.base import Scores
from branchwise.backends.engine.scheduler.requests import GenerateRequest, Request, ScoreRequest
from branchwise.backends.stream import BranchEvent, Broken, Extension
from branchwise.core.errors import BackendError
from branchwise.core.usage import Usage


class OutputQueue:
    """Events of one step, delivered with one wake-up per event loop however many branches run."""

    def __init__(self) -> None:
        self._pending: dict[asyncio.AbstractEventLoop, list[tuple[Extension, BranchEvent]]] = {}

    def put(self, extension: Extension, event: BranchEvent) -> None:
        self._pending.setdefault(extension.loop, []).append((extension, event))

    def flush(self) -> list[Extension]:
        """Deliver all events. Return the extensions whose event loop is closed."""
        orphans: list[Extension] = []
        for loop, items in self._pending.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the event loop is closed
                orphans.extend(extension for extension, _ in items)
        self._pending.clear()
        return orphans


def _deliver(items: Sequence[tuple[Extension, BranchEvent]]) -> None:
    for extension, event in items:
        extension.deliver(event)


def refuse(request: Request, error: BackendError) -> None:
    """Fail a request that never reached the step loop. Call it in the request's event loop."""
    if isinstance(request, GenerateRequest):
        for branch in request.open_branches():
            branch.done = True
            branch.extension.deliver(Broken(branch.copy, error, Usage()))
    elif isinstance(request, ScoreRequest):
        _resolve(request, error)


def resolve(request: ScoreRequest, result: Scores | BackendError) -> None:
    """Deliver scores, or the error that prevented them, in the request's event loop."""
    if request.future is not None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            request.future.get_loop().call_soon_threadsafe(_resolve, request, result)


def _resolve(request: ScoreRequest, result: Scores | BackendError) -> None:
    if request.future is None or request.future.done():
        return
    if isinstance(result, BackendError):
        request.future.set_exception(result)
    else:
        request.future.set_result(result)
