"""Limits, ends and errors of programs. `sandbox` runs them."""

import os
import signal
from dataclasses import dataclass, fields
from enum import Enum

from branchwise.core.errors import BranchwiseError, require
from branchwise.sandbox.jail.messages import Ending


class Kind(Enum):
    """End of a program."""

    PASSED = "passed"  # its last line ran
    FAILED = "failed"  # it raised an exception, such as a failed assertion, or is not valid Python
    EXITED = "exited"  # it exited before its last line
    CRASHED = "crashed"  # a signal ended it
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"  # it wrote too much, to its output or to files


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a program."""

    seconds: float = 20.0
    """Wall-clock time, from its first line on."""
    cpu_seconds: int = 10
    """CPU time of each of its processes."""
    memory: int = 1 << 30
    """Bytes of memory of all its processes, and of address space of each; the interpreter takes about 30 MB."""
    processes: int = 16
    """Processes and threads at a time."""
    output: int = 1 << 20
    """Bytes it may write to standard output and error, which are discarded."""
    files: int = 1 << 24
    """Bytes of its files in total, and of each."""

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
_DETAIL = 2000  # characters
_KINDS = {"memory": Kind.MEMORY, "left": Kind.EXITED, "failed": Kind.FAILED}
_SIGNALS = {one.value: one.name for one in signal.Signals}


def outcome_of(ending: Ending, report: bytes, proof: bytes, limits: Limits) -> Outcome:
    """Interpret the supervisor's report. Raises SandboxError if the program was not run."""
    if ending.problem is not None:
        raise SandboxError(ending.problem, ending.fix)
    stopped = {
        "time": Outcome(Kind.TIMEOUT, f"no end after {limits.seconds:g} seconds"),
        "output": Outcome(Kind.OUTPUT, f"more than {limits.output} bytes of output"),
        "files": Outcome(Kind.OUTPUT, f"more than {limits.files} bytes of files"),
        "memory": Outcome(Kind.MEMORY, f"more than {limits.memory} bytes of memory"),
        "processes": Outcome(Kind.FAILED, f"more than {limits.processes} processes and threads"),
    }
    if ending.how in stopped:
        return stopped[ending.how]
    if report == proof:
        return Outcome(Kind.PASSED)
    word, _, detail = report.partition(b"\n")
    kind = _KINDS.get(word.decode(errors="replace"))
    if kind is not None:
        return Outcome(kind, _printable(detail))
    code = os.waitstatus_to_exitcode(ending.status)
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and ending.cpu > 0.9 * limits.cpu_seconds):
        return Outcome(Kind.TIMEOUT, f"no end after {limits.cpu_seconds} seconds of CPU time")
    if code < 0:
        return Outcome(Kind.CRASHED, f"ended by {_SIGNALS.get(-code, f'signal {-code}')}")
    return Outcome(Kind.EXITED, f"exited with status {code}")


def _printable(text: bytes) -> str:
    """Return the end of a text without control characters."""
    decoded = text.decode(errors="replace").strip()
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in decoded)[-_DETAIL:]
