"""Sandboxes as this machine can have them: as root and as another user, with namespaces and without."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from branchwise.sandbox import jail
from branchwise.sandbox.outcome import Kind, Limits, Outcome, SandboxError

SECRET = "BRANCHWISE_TEST_SECRET", "a key that nobody may read"

SERVE = """
import json, os, sys
from branchwise.sandbox.outcome import Limits, SandboxError
from branchwise.sandbox.sandbox import run_program, run_tests
user, sys.executable, namespaces = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "namespaces"
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
print("ready", flush=True)
for line in sys.stdin:
    source, tests, limits = json.loads(line)
    try:
        if tests is None:
            outcome = run_program(source, Limits(**limits), namespaces=namespaces)
        else:
            outcome = run_tests(source, tests, ("f",), Limits(**limits), namespaces=namespaces)
        said = [outcome.kind.value, outcome.detail]
    except SandboxError as error:
        said = ["refused", error.problem, error.fix]
    print(json.dumps(said), flush=True)
"""

Run = Callable[..., Outcome]


class Setup(NamedTuple):
    """User and layers that run programs."""

    user: int  # 0: the user that runs the tests
    interpreter: str
    layers: str  # "namespaces" or "filter"


def setups() -> dict[str, Setup]:
    """All that can be had here."""
    mine, everybodys = sys.executable, _readable_interpreter()
    if os.geteuid() != 0:
        return {f"user with {layers}": Setup(0, mine, layers) for layers in ("namespaces", "filter")}
    found = {"root with namespaces": Setup(0, mine, "namespaces")}
    if everybodys is not None:
        found["root with filter"] = Setup(0, everybodys, "filter")
        found |= {f"user with {layers}": Setup(54321, everybodys, layers) for layers in ("namespaces", "filter")}
    return found


def _readable_interpreter() -> str | None:
    """A Python that every user can run, as they can read the package."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if not all(_open_to_all(Path(file)) for file in (candidate, jail.__file__)):
            continue
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        if subprocess.run([candidate, "-c", code], check=False).returncode == 0:
            return candidate
    return None


def _open_to_all(file: Path) -> bool:
    return file.exists() and all(folder.stat().st_mode & 0o001 for folder in file.resolve().parents)


@contextmanager
def served(setup: Setup, command: Sequence[str] | None = None) -> Iterator[tuple[Run, int]]:
    """Run programs in a process that is set up so, and that `command` starts; its number, too."""
    command = command or [sys.executable, "-c", SERVE, str(setup.user), setup.interpreter, setup.layers]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, SECRET[0]: SECRET[1]}
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        asking, answers = server.stdin, server.stdout

        def run(source: str, wait: bool = True, tests: str | None = None, **limits: float) -> Outcome:
            given = asdict(Limits(**{"seconds": 30, **limits}))  # type: ignore[arg-type]
            asking.write(json.dumps([source, tests, given]) + "\n")
            asking.flush()
            if not wait:
                return Outcome(Kind.PASSED)
            said = json.loads(answers.readline())
            if said[0] == "refused":
                raise SandboxError(*said[1:])
            return Outcome(Kind(said[0]), said[1])

        try:
            yield run, server.pid
        finally:
            server.kill()


def processes(mark: str = "sandbox.jail.supervisor") -> set[int]:
    """The processes whose command says `mark`; those of sandboxes do."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if mark.encode() in Path("/proc", name, "cmdline").read_bytes() and int(name) != os.getpid():
                found.add(int(name))
    return found


def folders() -> set[str]:
    """Temporary folders of sandboxes."""
    return {name for name in os.listdir("/tmp") if name.startswith("branchwise-")}


PATIENCE = 40.0  # seconds for one program; the machine may be busy
_GONE = 15.0  # seconds until all processes have ended


def all_gone(suspects: set[int], mark: str = "sandbox.jail.supervisor") -> bool:
    """Wait until processes are gone; those of concurrent tests end soon, too."""
    deadline = time.monotonic() + _GONE
    while suspects and time.monotonic() < deadline:
        suspects &= processes(mark)
        time.sleep(0.01)
    return not suspects


def is_plain(text: str) -> bool:
    return len(text) <= 2000 and all(c.isprintable() or c == "\n" for c in text)
