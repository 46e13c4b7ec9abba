"""Memory, processes and files that a whole program uses, counted from outside. `supervisor` polls them.

The limits of the kernel (`runner`) hold for each process or file alone; these are the limits over all of them.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from branchwise.sandbox.jail import processes
from branchwise.sandbox.jail.messages import Request

_MEMORY = ("RssAnon", "RssShmem", "VmSwap")
_SHARE = ("Pss", "SwapPss")
_KILOBYTE, _BLOCK = 1024, 512  # bytes
_MOST_ENTRIES = 4096  # files and folders, as in a private file system
_FIRST = 1  # number of the first process of a namespace
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW


class Usage:
    """Counts what a program uses and compares it with its limits."""

    def __init__(self, request: Request, folder: str, init: int, checker: int) -> None:
        self._request = request
        self._folder = folder  # of the program, if it has no private file system
        self._init = init  # the process above the program
        self._others = {_FIRST, checker}  # numbers of processes below it that are not the program's
        self._last: str | None = None

    def excess(self) -> str | None:
        """Return the name of a limit ("memory", "processes", "files") that is exceeded for the second time, or None.

        One count can be too high: pages of processes that end during it are divided among fewer and fewer.
        """
        last, self._last = self._last, self._count()
        return last if last == self._last else None

    def _count(self) -> str | None:
        """Return the name of an exceeded limit, or None."""
        found, used, tasks = [], 0, 0
        for process in processes.descendants(self._init):
            fields = processes.status(process)
            if "NSpid" in fields and int(fields["NSpid"][:2][-1]) not in self._others:
                found.append(process)
                used += _sum(fields, _MEMORY)
                tasks += int(fields["Threads"][0])
        if tasks > self._request.processes:
            return "processes"
        if used > self._request.memory and sum(map(_memory, found)) > self._request.memory:
            return "memory"
        if _nameless(found) + _size(self._folder, self._request.files) > self._request.files:
            return "files"
        return None


def _sum(fields: dict[str, list[str]], names: tuple[str, ...]) -> int:
    """Return the bytes that fields of a process say in kilobytes."""
    return sum(int(fields[name][0]) for name in names if name in fields) * _KILOBYTE


def _memory(process: int) -> int:
    """Return the bytes of memory of a process; pages that several share are divided among them, if that is readable."""
    with suppress(OSError), open(f"/proc/{process}/smaps_rollup", encoding="ascii") as file:
        fields = {name: value.split() for name, _, value in (line.partition(":") for line in file)}
        return _sum(fields, _SHARE)
    return _sum(processes.status(process), _MEMORY)


def _nameless(found: Iterable[int]) -> int:
    """Return the bytes of open files that no folder contains: deleted ones, and files in memory."""
    sizes: dict[tuple[int, int], int] = {}
    for process in found:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    state = os.stat(f"/proc/{process}/fd/{number}")
                    if stat.S_ISREG(state.st_mode) and not state.st_nlink:
                        sizes[state.st_dev, state.st_ino] = state.st_blocks * _BLOCK
    return sum(sizes.values())


def _size(folder: str, most: int) -> int:
    """Return the bytes of all files in a folder; more than `most` if they are too many to count."""
    try:
        todo = [os.open(folder, _FOLDER)]
    except FileNotFoundError:
        return 0  # the program has a private file system
    used = entries = 0
    while todo and used <= most:
        parent = todo.pop()
        with os.scandir(parent) as found:
            for entry in found:
                entries += 1
                try:
                    used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(_opened(entry.name, parent))
                except OSError as error:
                    if error.errno == errno.EMFILE:
                        return most + 1
                if entries > _MOST_ENTRIES:
                    return most + 1
        os.close(parent)
    return used


def _opened(name: str, parent: int) -> int:
    """Open a folder inside a folder, even one that its owner may not read. Raises OSError."""
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        path = os.open(name, _FOLDER | os.O_PATH, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{path}", 0o700)
            return os.open(f"/proc/self/fd/{path}", os.O_DIRECTORY)
        finally:
            os.close(path)
