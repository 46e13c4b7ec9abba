"""The command line in a process of its own. Tests of commands and servers run it through these helpers."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

COMMAND = [sys.executable, "-m", "branchwise.cli.main"]

_DEFAULT_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
_RESET_SIGINT = [sys.executable, "-c", _DEFAULT_SIGINT]
INTERRUPTIBLE = [*_RESET_SIGINT, *COMMAND]
"""COMMAND, with the default handler of Ctrl-C: a shell that runs the tests in the background has it ignored."""
GOOD_ROW = '{"id": "a", "question": "q", "answer": "1"}\n'

Completed = subprocess.CompletedProcess[str]


def run(
    *arguments: str | bytes, stdin: str = "", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Completed:
    """Run the command to its end; `env` is added to the environment."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


def quick(model: Path) -> list[str]:
    """Return the options of a quick run; the random model gives no answer."""
    return ["--model", str(model), "--max-tokens", "8", "--paths", "3"]


def is_plain(text: str) -> bool:
    """Return True if the text consists of lines without control characters."""
    return not re.search(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def assert_rejected(done: Completed, message: str) -> None:
    """Check for exit status 2 and a single line of standard error that contains the message."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


class Interrupted(NamedTuple):
    """A command that was interrupted, and how it ended."""

    status: int
    stderr: str
    seconds: float
    """From the interrupt to the end."""


def interrupt(command: Sequence[str], when: Callable[[int], bool], env: Mapping[str, str]) -> Interrupted:
    """Run a command and press Ctrl-C as soon as `when`, called with the process's id, returns True."""
    process = subprocess.Popen(
        [*_RESET_SIGINT, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        start_new_session=True,  # a terminal interrupts child processes, too
    )
    deadline = time.monotonic() + 180
    while not when(process.pid) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):  # it has ended, and its output shows the reason
        os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, stderr = process.communicate(timeout=120)
    return Interrupted(process.returncode, stderr, time.monotonic() - began)
