"""One process at a time."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from branchwise.backends.models.cache import unwritable

_POLL_SECONDS = 0.2


@contextmanager
def exclusive(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold `file` as a lock; `waiting` is called when another process holds it.

    The file is gone afterwards, and a process that dies lets go of it. Raises ModelError where it can't be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = _acquire(file, waiting)
    except OSError as error:
        raise unwritable(file.parent, error.strerror or str(error)) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps it while others have it open
            file.unlink()
        os.close(held)


def _acquire(file: Path, waiting: Callable[[], None]) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(descriptor, wait=False):
                waiting()
                _lock(descriptor, wait=True)
            # Whoever held it has deleted the file since: then this locks a file that nobody else will find.
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool) -> bool:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
            time.sleep(_POLL_SECONDS)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> bool:
        """Lock an open file; False when another process has it and this one doesn't wait."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True
