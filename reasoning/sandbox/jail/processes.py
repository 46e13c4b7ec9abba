"""Processes below this one: found in /proc, and ended. `supervisor` and `init` each end what the other left."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

_PAUSE = 0.001  # seconds between two rounds of signals
_LISTED = os.path.exists("/proc/thread-self/children")  # the kernel lists the children of a thread


def children(process: int) -> list[int]:
    """Return the children of a process. Some may be missing while others end."""
    if not _LISTED:
        return [child for child, parent in _parents() if parent == process]
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError), open(f"/proc/{process}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process with its parent, where the kernel lists no children."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            yield int(name), int(file.read().rpartition(")")[2].split()[1])


def status(process: int) -> dict[str, list[str]]:
    """Return the fields of a process's /proc status, split at spaces; none of one that ended."""
    with suppress(OSError), open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as file:
        return {name: value.split() for name, _, value in (line.partition(":") for line in file)}
    return {}


def count_of(user: int) -> int:
    """Count a user's processes and threads."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = status(int(name))
        if fields.get("Uid", [""])[0] == str(user):
            found += int(fields["Threads"][0])
    return found


def descendants(process: int) -> set[int]:
    """Return the processes that a process or its descendants started or adopted."""
    found: set[int] = set()
    todo = children(process)
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += children(one)
    return found


def end_descendants() -> None:
    """Kill every child with its group, then those that this process adopts, until none is left; reap all.

    Needs `kernel.adopt_orphans`. A group is killed at once, so forks do not outrun the signals.
    """
    while True:
        for child in children(os.getpid()):
            _kill(child)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_PAUSE)


def end_namespace() -> None:
    """Kill and reap every other process of the process namespace, of which this one is the first."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def end_child(child: int) -> tuple[int, float]:
    """Kill a child and its group; return its status and CPU seconds.

    The child is reaped after its group is killed, so that its id cannot be reused by another process meanwhile.
    """
    _kill(child)
    _, status, used = os.wait4(child, 0)
    return status, used.ru_utime + used.ru_stime


def _kill(child: int) -> None:
    """Kill a child that is not reaped yet, and the group that it is in unless this process is in it too."""
    with suppress(ProcessLookupError):
        group = os.getpgid(child)
        if group != os.getpgrp():
            os.killpg(group, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def awake() -> int:
    """Return a file descriptor that becomes readable when a child ends."""
    readable, signalled = os.pipe()
    for descriptor in (readable, signalled):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    return readable
