"""Stop a run early from another thread, a signal handler or another task."""

import threading
from collections.abc import Callable


class Stop:
    """A flag that ends a run early when set; the run returns its best answer so far."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant, because a signal handler may interrupt a holder in the same thread
        self._set = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """End the run. Safe from any thread; setting it twice changes nothing."""
        with self._lock:
            self._set = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` once when the flag is set, or now if it is set already."""
        with self._lock:
            if not self._set:
                self._listeners.append(listener)
                return
        listener()

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Remove `listener`."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
