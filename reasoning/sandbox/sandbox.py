"""Running Python programs that nobody vouches for."""

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from enum import Enum
from io import FileIO
from pathlib import Path
from typing import IO

from branchwise.core.errors import BranchwiseError, require
from branchwise.sandbox import jail
from branchwise.sandbox.jail.messages import Ending, Request, encode


class Kind(Enum):
    """How a program ended."""

    PASSED = "passed"  # it came to the end of its last line
    FAILED = "failed"  # it raised an exception, a failed assertion among them, or is no Python
    EXITED = "exited"  # it left before its end
    CRASHED = "crashed"  # a signal ended it
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"  # it wrote too much


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use."""

    seconds: float = 20.0
    """Of wall-clock time, from its first line on."""
    cpu_seconds: int = 10
    """Of each of its processes."""
    memory: int = 1 << 30
    """Bytes of address space of each of its processes; the interpreter takes about 30 MB."""
    processes: int = 16
    """At a time, its threads included."""
    output: int = 1 << 20
    """Bytes that it may write to its standard output and error, where nobody reads them."""
    files: int = 1 << 24
    """Bytes of its files: of all together where it has a file system of its own, else of each."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(value > 0, f"Limits.{field.name}", f"is {value}", "use more than 0")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, and what it said."""

    kind: Kind
    detail: str = ""
    """For a person; the program may have written it. Printable, and not long."""

    @property
    def passed(self) -> bool:
        """Whether it came to its end."""
        return self.kind is Kind.PASSED


class SandboxError(BranchwiseError):
    """Programs can't be run safely on this machine, or just now."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"sandbox: {problem}; {fix}")
        self.problem = problem
        self.fix = fix


LIMITS = Limits()
_AT_ONCE = threading.BoundedSemaphore(os.cpu_count() or 1)  # programs, whoever asks for them
_START_SECONDS, _END_SECONDS = 90.0, 10.0
_REPORT = 1 << 16  # bytes of a report that are read; a pipe holds as many
_DETAIL = 2000  # characters
_KINDS = {"memory": Kind.MEMORY, "left": Kind.EXITED, "failed": Kind.FAILED}
_SIGNALS = {one.value: one.name for one in signal.Signals}
# The supervisor's modules under their own names, without the package around them: it takes long to import.
_START = """
import sys, types
for name in ("branchwise", "branchwise.sandbox", "branchwise.sandbox.jail"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]] if name.endswith("jail") else []
from branchwise.sandbox.jail.supervisor import main
main()
"""


def run_program(source: str, limits: Limits = LIMITS, *, namespaces: bool = True) -> Outcome:
    """Run a Python program in processes of its own, to its end or to a limit; nothing of it stays behind.

    It passes where its last line was run. It is imported as a module called `program`, by this interpreter with
    the standard library alone, and with equal hashes in every run. It has no input, no network, no environment of
    the caller's, an empty working folder, and no way to another process. On Linux, where one of these can be had:

    - Namespaces (root, or user namespaces; `namespaces=False` does without): it sees no file but those of Python
      and of the system's libraries, and its folder is in memory.
    - Otherwise a filter of system calls (x86-64 and 64-bit ARM) and Landlock (Linux 5.13), which lets it read as
      much. Root does without Landlock where it must: programs run as a user that nobody else is, and reach files
      that everybody may.

    It protects the machine, and a verdict from a program that leaves early; a program that sets out to deceive
    tests that run beside it (by an object that equals everything) can. Blocks; so many programs run at once as
    there are CPUs. Raises SandboxError where it can't be run.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxError("programs can be run on Linux alone", "use a Linux machine or container")
    proof = secrets.token_bytes(32)
    with _AT_ONCE, _pipe() as (report, reported), _pipe() as (given, giving):
        giving.write(proof)
        giving.close()
        request = Request(
            source, limits.seconds, limits.cpu_seconds, limits.memory, limits.processes, limits.output, limits.files,
            namespaces, reported.fileno(), given.fileno(),
        )  # fmt: skip
        ending = _supervised(request)
        os.set_blocking(report.fileno(), False)
        return _outcome(ending, report.read(_REPORT) or b"", proof, limits)


def check_sandbox() -> None:
    """Raises SandboxError where programs can't be run: before the work, not after it."""
    run_program("")


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """Where to read and where to write."""
    read, write = os.pipe()
    with FileIO(read, "r") as reader, FileIO(write, "w") as writer:
        yield reader, writer


def _supervised(request: Request) -> Ending:
    """Start a supervisor and wait for what it says. Raises SandboxError."""
    command = [sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _START, str(Path(jail.__file__).parent)]
    try:
        supervisor = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            pass_fds=(request.report, request.proof),
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"{sys.executable} can't be started ({error})", "try again with less running") from error
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    try:
        said = _ask(supervisor.stdin, supervisor.stdout, encode(request), _START_SECONDS + request.seconds)
    finally:
        supervisor.stdin.close()  # where it still runs, it ends everything
        supervisor.stdout.close()
        try:
            supervisor.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
    try:
        return Ending(**json.loads(said))
    except ValueError:
        problem = f"its supervisor ended with status {supervisor.returncode} and said nothing"
        raise SandboxError(problem, "try again with less running") from None


def _ask(asking: IO[bytes], answer: IO[bytes], question: bytes, seconds: float) -> bytes:
    """What is answered to a question; as much of it as came in time."""
    said, deadline = b"", time.monotonic() + seconds
    with suppress(BrokenPipeError), selectors.DefaultSelector() as selector:
        while question:
            question = question[asking.write(question) :]
        selector.register(answer, selectors.EVENT_READ)
        while not said.endswith(b"\n") and selector.select(deadline - time.monotonic()):
            chunk = answer.read(_REPORT)
            if not chunk:
                break
            said += chunk
    return said


def _outcome(ending: Ending, report: bytes, proof: bytes, limits: Limits) -> Outcome:
    """What became of a program. Raises SandboxError where it was not run."""
    if ending.problem is not None:
        raise SandboxError(ending.problem, ending.fix)
    if ending.how == "time":
        return Outcome(Kind.TIMEOUT, f"no end after {limits.seconds:g} seconds")
    if ending.how == "output":
        return Outcome(Kind.OUTPUT, f"more than {limits.output} bytes of output")
    if report == proof:
        return Outcome(Kind.PASSED)
    code = os.waitstatus_to_exitcode(ending.status)
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and ending.cpu > 0.9 * limits.cpu_seconds):
        return Outcome(Kind.TIMEOUT, f"no end after {limits.cpu_seconds} seconds of CPU time")
    if code < 0:
        return Outcome(Kind.CRASHED, f"ended by {_SIGNALS.get(-code, f'signal {-code}')}")
    word, _, detail = report.partition(b"\n")
    kind = _KINDS.get(word.decode(errors="replace"))
    return Outcome(Kind.EXITED, f"left with status {code}") if kind is None else Outcome(kind, _shown(detail))


def _shown(text: bytes) -> str:
    """The end of a text, without what a terminal would obey."""
    decoded = text.decode(errors="replace").strip()
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in decoded)[-_DETAIL:]
