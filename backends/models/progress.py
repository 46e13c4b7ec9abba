"""The callback that reports how far a download or a conversion has come."""

from collections.abc import Callable

OnProgress = Callable[[int, int, str], None]
"""Called with the bytes done, the total bytes (0 if unknown) and the current stage."""


def no_progress(done: int, total: int, stage: str) -> None:
    """Ignore the progress."""
