"""Sandbox for untrusted Python programs: starts a supervisor process (`jail`) and interprets its result."""

import json
import os
import secrets
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import IO, NamedTuple

from branchwise.sandbox import jail
from branchwise.sandbox.jail.messages import Ending, Request, encode
from branchwise.sandbox.outcome import LIMITS, Limits, Outcome, SandboxError, outcome_of

_WEAK = "BRANCHWISE_WEAK_SANDBOX"
_AT_ONCE = threading.BoundedSemaphore(os.cpu_count() or 1)  # programs of all callers
_START_SECONDS, _END_SECONDS = 90.0, 10.0
_REPORT = 1 << 16  # bytes read of a report; the capacity of a pipe
# Imports the supervisor's modules under their own names without the packages around them, which import slowly.
_START = """
import sys, types
for name in ("branchwise", "branchwise.sandbox", "branchwise.sandbox.jail"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]] if name.endswith("jail") else []
from branchwise.sandbox.jail.supervisor import main
main()
"""


class Layers(NamedTuple):
    """Layers of confinement that hold on this machine."""

    namespaces: bool
    """A private file system, network and process list."""
    landlock: bool
    """Only the files of Python and its libraries can be opened."""
    seccomp: bool
    """A filter of system calls."""


def run_program(source: str, limits: Limits = LIMITS, *, namespaces: bool = True, strict: bool = True) -> Outcome:
    """Run a Python program in separate processes until it ends or exceeds a limit; clean up everything it leaves.

    The program passes if its last line ran. It is imported as a module named `program`, by this interpreter with only
    the standard library, and with the same hash seed in every run. It has no input, no network, no access to the
    caller's environment or to other processes, and an empty working folder. This needs Linux and one of:

    - Namespaces (as root, or user namespaces; `namespaces=False` skips them): the program sees only the files of Python
      and of system libraries, and its folder is in memory.
    - A system call filter (x86-64 and 64-bit ARM) with Landlock (Linux 5.13), which permits reading the same files. For
      root, Landlock is optional: programs run as an unused user and reach only world-readable files.

    With `strict`, fewer layers than namespaces, or Landlock with the filter, are refused for root too, unless the
    environment variable BRANCHWISE_WEAK_SANDBOX is 1.

    That the last line ran is only the program's word: to judge a program, use `run_tests`. The call blocks; at most one
    program per CPU runs at once. Raises SandboxError if the program cannot be run safely.
    """
    ending, report, proof = _run(source, limits, namespaces, strict)
    return outcome_of(ending, report, proof, limits)


def run_tests(
    source: str,
    tests: str,
    names: Sequence[str],
    limits: Limits = LIMITS,
    *,
    namespaces: bool = True,
    strict: bool = True,
) -> Outcome:
    """Run a program, and in another process tests that call its `names`; it passes if the tests' last line ran.

    Both are confined as by `run_program`, and the tests, expected values and proof are never in the program's memory.
    Arguments and results that are plain data (numbers, text, collections, dates, records, None) are copied, lists and
    dictionaries that the program changes are changed, and exceptions are raised again. Other objects stay in the
    program: the tests can call them, read and set attributes and items, and iterate, but they equal no plain data and
    compute only with each other. Raises SandboxError as `run_program` does.
    """
    ending, report, proof = _run(source, limits, namespaces, strict, tests, names)
    return outcome_of(ending, report, proof, limits)


def check_sandbox(*, strict: bool = True) -> Layers:
    """Run an empty program and return the layers that confined it. Call it before the work starts.

    Raises SandboxError if programs cannot be run here; with `strict`, also if too few layers hold.
    """
    ending, report, proof = _run("", LIMITS, True, strict)
    outcome_of(ending, report, proof, LIMITS)
    return Layers(*(name in ending.layers for name in Layers._fields))


def _run(
    source: str, limits: Limits, namespaces: bool, strict: bool, tests: str = "", names: Sequence[str] | None = None
) -> tuple[Ending, bytes, bytes]:
    """Run a program, with tests if there are names; return its end, its report and the proof of success."""
    if not sys.platform.startswith("linux"):
        raise SandboxError("programs run only on Linux", "use a Linux machine or container")
    proof = secrets.token_bytes(32)
    with _AT_ONCE, _pipe() as (report, reported), FileIO(os.memfd_create("tests"), "w+") as given:
        given.write(proof + tests.encode(errors="surrogatepass"))
        given.seek(0)
        request = Request(
            source=source,
            **asdict(limits),
            namespaces=namespaces,
            strict=strict and os.environ.get(_WEAK) != "1",
            report=reported.fileno(),
            proof=given.fileno(),
            names=None if names is None else tuple(names),
        )
        ending = _supervised(request)
        os.set_blocking(report.fileno(), False)
        return ending, report.read(_REPORT) or b"", proof


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
