"""Events on their way from the step loop's thread to the event loops that asked."""

import asyncio
from collections.abc import Sequence

from branchwise.backends.extension import BranchEvent, Extension


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
