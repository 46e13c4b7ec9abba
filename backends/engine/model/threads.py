"""Threads that compute, kept to those of the step loop."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_SOFT = 1  # omp_pause_soft: what is paused starts again when it is wanted


def rest() -> None:
    """Let the calling thread's idle OpenMP workers go.

    Every thread that has run a parallel operation keeps its own pool of workers. Once these are more than the
    processors, GNU OpenMP has idle workers sleep instead of spin, and each of the thousand parallel operations
    of a step waits for them to wake (measured on two cores: 1.3 times slower at one branch, 1.7 at 64).
    Does nothing where torch runs on another OpenMP library.
    """
    if (pause := _pause()) is not None:
        pause(_SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """`omp_pause_resource_all` (OpenMP 5.0) of the library that torch has loaded."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        mapped = (line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines())
        loaded = sorted((path for path in mapped if "libgomp" in path), key=lambda path: "torch" not in path)
        pause: Callable[[int], int] | None = ctypes.CDLL(loaded[0]).omp_pause_resource_all if loaded else None
    except (OSError, AttributeError):
        return None
    return pause
