"""Messages between the sandbox's processes, one JSON object per line."""

import json
from typing import NamedTuple


class Request(NamedTuple):
    """Program and limits: the first line of the supervisor's input."""

    source: str
    seconds: float  # of wall-clock time, from the program's first line on
    cpu_seconds: int  # of each process
    memory: int  # bytes of address space of each process, and of memory in use of all
    processes: int  # processes and threads at a time
    output: int  # bytes printed
    files: int  # bytes of all files
    namespaces: bool
    strict: bool  # refuse unless namespaces, or Landlock with the system call filter, hold
    report: int  # file descriptor to which the proof or the failure is written
    proof: (
        int  # file descriptor from which the proof, and then the tests, are read; the program of a checked run has none
    )
    names: tuple[str, ...] | None = None  # names of the program that its tests use; None without tests


class Ready(NamedTuple):
    """The runner is confined, or the reason it is not."""

    problem: str | None = None
    fix: str = ""
    layers: tuple[str, ...] = ()  # those that hold: "namespaces", "landlock", "seccomp"
    role: str = ""  # as in `runner.Role`
    process: int = 0  # the runner's id in its own process namespace


class Ended(NamedTuple):
    """A runner ended: status as returned by os.wait, and CPU seconds."""

    role: str
    status: int
    cpu: float


class Ending(NamedTuple):
    """End of the program: the supervisor's output."""

    how: str  # "exit", "time", "output", "memory", "processes", "files", "lost"; "refused" if the program was not run
    status: int = 0  # as returned by os.wait
    cpu: float = 0.0  # seconds
    problem: str | None = None
    fix: str = ""
    layers: tuple[str, ...] = ()


def encode(message: Request | Ready | Ended | Ending) -> bytes:
    """Encode a message as one line."""
    return json.dumps(message._asdict()).encode() + b"\n"
