"""What the processes of a sandbox tell each other, one JSON object each."""

import json
from typing import NamedTuple


class Request(NamedTuple):
    """What is to be run: the first line of the supervisor's input."""

    source: str
    seconds: float  # of wall-clock time, from the program's first line on
    cpu_seconds: int  # of each process
    memory: int  # bytes of each process
    processes: int  # and threads, at a time
    output: int  # bytes
    files: int  # bytes
    namespaces: bool
    report: int  # the file descriptor that the proof, or what went wrong, is written to
    proof: int  # and the one that it is read from


class Ready(NamedTuple):
    """That the runner has locked itself in, or why it could not."""

    problem: str | None = None
    fix: str = ""
    folder: str | None = None  # a temporary folder that is to be removed


class Ending(NamedTuple):
    """How it ended: the supervisor's output."""

    how: str  # "exit", "time", "output", "lost"; "refused" where the program was not run
    status: int = 0  # as os.wait gives it
    cpu: float = 0.0  # seconds
    problem: str | None = None
    fix: str = ""


def encode(message: Request | Ready | Ending) -> bytes:
    """A line."""
    return json.dumps(message._asdict()).encode() + b"\n"
