"""The C library's heap, told to keep what a step frees for the next step."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 32 << 20  # bytes; the most glibc takes from its heap
_KEPT = 256 << 20


def keep_freed() -> None:
    """Keep up to 256 MB of freed memory instead of giving it back after every large temporary.

    Pages that come back must be mapped and zeroed again, and whether they go is chance: a step's sampling took
    4 or 20 ms (16 branches, 152k tokens, in a virtual machine). Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_TRIM_THRESHOLD, _KEPT)
    mallopt(_MMAP_THRESHOLD, _LARGEST)
