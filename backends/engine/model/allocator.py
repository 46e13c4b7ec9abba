"""Memory for a step's temporaries, without mapping every page of it anew."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 32 << 20  # bytes; the most glibc takes from its heap
_KEPT = 256 << 20


def huge_pages() -> None:
    """Have torch take huge pages for what is larger than 2 MB, where the system gives some.

    What the C library's heap does not keep is mapped anew at every step: the logits of 64 branches are 39 MB, whose
    pages of 4 KB take 26 ms to come (one core of a virtual machine), those of 2 MB 6 ms. torch reads this once, when it
    first allocates: whoever used it before goes on as they were. A choice that is made already stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


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
