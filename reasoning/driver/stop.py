"""Stopping a run from outside: from another thread, a signal handler or another task."""

import threading
from collections.abc import Callable


class Stop:
    """Set it to end a run early; the run returns its best answer so far."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler may set it while the same thread is in here.
        self._lock = threading.RLock()
        self._set = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Ask the run to end. Safe from any thread; setting it twice changes nothing."""
        with self._lock:
            self._set = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` once when it is set, at once if it is."""
        with self._lock:
            if not self._set:
                self._listeners.append(listener)
                return
        listener()

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Don't call `listener` any more."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
