"""Settings of the C library's allocator that keep a step's temporaries from being mapped anew."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_LARGEST = 32 << 20  # bytes, the largest block that glibc takes from its heap
_RETAINED = 256 << 20  # bytes


def enable_huge_pages() -> None:
    """Make torch use huge pages for blocks over 2 MB, where the system supports them.

    Blocks beyond the C library's heap are mapped anew at every step: mapping the logits of 64 branches, 39 MB, takes
    26 ms in pages of 4 KB and 6 ms in pages of 2 MB (one core of a virtual machine). torch reads the variable at its
    first allocation, so this has no effect after it. A value that the user has set stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def retain_freed_memory() -> None:
    """Make glibc keep up to 256 MB of freed memory instead of returning it after every large temporary.

    Returned pages must be mapped and zeroed again, and whether they are returned is chance: a step's sampling took 4
    or 20 ms (16 branches, 152k tokens, in a virtual machine). Does nothing with another C library.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_TRIM_THRESHOLD, _RETAINED)
    mallopt(_MMAP_THRESHOLD, _LARGEST)
