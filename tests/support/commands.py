"""The command line, run in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = [sys.executable, "-m", "branchwise.cli.main"]

_HEED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
HEEDING = [sys.executable, "-c", _HEED, *COMMAND]
"""The same, heeding Ctrl-C though the tests may run in the background, where it is ignored."""
GOOD = '{"id": "a", "question": "q", "answer": "1"}\n'

Done = subprocess.CompletedProcess[str]


def run(
    *arguments: str | bytes, given: str = "", cwd: Path | None = None, chosen: Mapping[str, str] | None = None
) -> Done:
    """Run it to its end; `chosen` are variables of its environment."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=given,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **(chosen or {})},
    )


def quick(model: Path) -> list[str]:
    """Options of a quick run: a random model has no answer."""
    return ["--model", str(model), "--max-tokens", "8", "--paths", "3"]


def is_plain(text: str) -> bool:
    """Whether lines of text are all there is: nothing that a terminal would obey."""
    return not re.search(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def refused(done: Done, message: str) -> bool:
    """Exit status 2 and one line that says why."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    return True
