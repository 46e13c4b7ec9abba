"""Sandbox for untrusted Python programs: starts a supervisor process (`jail`) and interprets its result."""

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
from dataclasses import asdict, dataclass, fields
from enum import Enum
from io import FileIO
from pathlib import Path
from typing import IO

from branchwise.core.errors import BranchwiseError, require
from branchwise.sandbox import jail
from branchwise.sandbox.jail.messages import Ending, Request, encode


class Kind(Enum):
    """End of a program."""

    PASSED = "passed"  # its last line ran
    FAILED = "failed"  # it raised an exception, such as a failed assertion, or is not valid Python
    EXITED = "exited"  # it exited before its last line
    CRASHED = "crashed"  # a signal ended it
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"  # it wrote too much


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a program."""

    seconds: float = 20.0
    """Wall-clock time, from its first line on."""
    cpu_seconds: int = 10
    """CPU time of each of its processes."""
    memory: int = 1 << 30
    """Bytes of address space of each of its processes; the interpreter takes about 30 MB."""
    processes: int = 16
    """Processes and threads at a time."""
    output: int = 1 << 20
    """Bytes it may write to standard output and error, which are discarded."""
    files: int = 1 << 24
    """Bytes of its files: in total if it has a private file system, otherwise of each file."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(value > 0, f"Limits.{field.name}", f"is {value}", "use more than 0")


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a program, with a detail for people."""

    kind: Kind
    detail: str = ""
    """Printable and short. The program may have written it."""

    @property
    def passed(self) -> bool:
        """Return whether the last line ran."""
        return self.kind is Kind.PASSED


class SandboxError(BranchwiseError):
    """Programs cannot be run safely on this machine, or not at the moment."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"sandbox: {problem}; {fix}")
        self.problem = problem
        self.fix = fix


LIMITS = Limits()
_AT_ONCE = threading.BoundedSemaphore(os.cpu_count() or 1)  # programs of all callers
_START_SECONDS, _END_SECONDS = 90.0, 10.0
_REPORT = 1 << 16  # bytes read of a report; the capacity of a pipe
_DETAIL = 2000  # characters
_KINDS = {"memory": Kind.MEMORY, "left": Kind.EXITED, "failed": Kind.FAILED}
_SIGNALS = {one.value: one.name for one in signal.Signals}
# Imports the supervisor's modules under their own names without the packages around them, which import slowly.
_START = """
import sys, types
for name in ("branchwise", "branchwise.sandbox", "branchwise.sandbox.jail"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]] if name.endswith("jail") else []
from branchwise.sandbox.jail.supervisor import main
main()
"""


def run_program(source: str, limits: Limits = LIMITS, *, namespaces: bool = True) -> Outcome:
    """Run a Python program in separate processes until it ends or exceeds a limit; clean up everything it leaves.

    The program passes if its last line ran. It is imported as a module named `program`, by this interpreter with only
    the standard library, and with the same hash seed in every run. It has no input, no network, no access to the
    caller's environment or to other processes, and an empty working folder. This needs Linux and one of:

    - Namespaces (as root, or user namespaces; `namespaces=False` skips them): the program sees only the files of Python
      and of system libraries, and its folder is in memory.
    - A system call filter (x86-64 and 64-bit ARM) with Landlock (Linux 5.13), which permits reading the same files. For
      root, Landlock is optional: programs run as an unused user and reach only world-readable files.

    The sandbox protects the machine, and the verdict against programs that exit early. It does not protect tests in the
    same process from a program that deceives them, for example by an object that equals everything. The call blocks; at
    most one program per CPU runs at once. Raises SandboxError if the program cannot be run safely.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxError("programs run only on Linux", "use a Linux machine or container")
    proof = secrets.token_bytes(32)
    with _AT_ONCE, _pipe() as (report, reported), _pipe() as (given, giving):
        giving.write(proof)
        giving.close()
        request = Request(
            source=source,
            **asdict(limits),
            namespaces=namespaces,
            report=reported.fileno(),
            proof=given.fileno(),
        )
        ending = _supervised(request)
        os.set_blocking(report.fileno(), False)
        return _outcome(ending, report.read(_REPORT) or b"", proof, limits)


def check_sandbox() -> None:
    """Raise SandboxError if programs cannot be run here. Call it before the work starts."""
    run_program("")


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """Open a pipe; yields its read and write ends."""
    read, write = os.pipe()
    with FileIO(read, "r") as reader, FileIO(write, "w") as writer:
        yield reader, writer


def _supervised(request: Request) -> Ending:
    """Run a supervisor and return its report. Raises SandboxError."""
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
        raise SandboxError(
            f"{sys.executable} cannot be started ({error})", "try again when the machine is less loaded"
        ) from error
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    try:
        reply = _exchange(supervisor.stdin, supervisor.stdout, encode(request), _START_SECONDS + request.seconds)
    finally:
        supervisor.stdin.close()  # a running supervisor then ends everything
        supervisor.stdout.close()
        try:
            supervisor.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
    try:
        return Ending(**json.loads(reply))
    except ValueError:
        problem = f"its supervisor ended with status {supervisor.returncode} without a report"
        raise SandboxError(problem, "try again when the machine is less loaded") from None


def _exchange(stdin: IO[bytes], stdout: IO[bytes], request: bytes, seconds: float) -> bytes:
    """Send a request and return the reply line, or the part of it that arrived in time."""
    reply, deadline = b"", time.monotonic() + seconds
    with suppress(BrokenPipeError), selectors.DefaultSelector() as selector:
        while request:
            request = request[stdin.write(request) :]
        selector.register(stdout, selectors.EVENT_READ)
        while not reply.endswith(b"\n") and selector.select(deadline - time.monotonic()):
            chunk = stdout.read(_REPORT)
            if not chunk:
                break
            reply += chunk
    return reply


def _outcome(ending: Ending, report: bytes, proof: bytes, limits: Limits) -> Outcome:
    """Interpret the supervisor's report. Raises SandboxError if the program was not run."""
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
    return Outcome(Kind.EXITED, f"exited with status {code}") if kind is None else Outcome(kind, _printable(detail))


def _printable(text: bytes) -> str:
    """Return the end of a text without control characters."""
    decoded = text.decode(errors="replace").strip()
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in decoded)[-_DETAIL:]
