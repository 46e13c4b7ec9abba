"""Ends, limits and cleanup of programs in the sandbox."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import branchwise as bw
from branchwise.sandbox import sandbox
from branchwise.sandbox.jail.messages import Ending, Request
from branchwise.sandbox.outcome import Kind, Limits, SandboxError
from branchwise.sandbox.sandbox import run_program
from tests.support.sandboxes import PATIENCE, Run, Setup, all_gone, folders, is_plain, processes, served

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

ENDINGS = {
    "its end": ("x = 1", Kind.PASSED, ""),
    "an assertion": ("assert 1 == 2, 'no'", Kind.FAILED, "AssertionError: no"),
    "no Python": ("def f(:", Kind.FAILED, "SyntaxError"),
    "a null byte": ("x = '\0'", Kind.FAILED, "null bytes"),
    "an endless recursion": ("def f():\n    f()\nf()", Kind.FAILED, "RecursionError"),
    "sys.exit": ("import sys\nsys.exit(0)\nassert False", Kind.EXITED, "SystemExit"),
    "os._exit": ("import os\nos._exit(0)\nassert False", Kind.EXITED, "status 0"),
    "an own exit": ("import os\nos._exit = print\nraise SystemExit", Kind.EXITED, ""),
    "an abort": ("import os\nos.abort()", Kind.CRASHED, "ended by SIG"),
    "a signal without a name": (  # a first process ignores it
        "import os, signal\nsignal.raise_signal(35)\nos.abort()", Kind.CRASHED, "ended by",
    ),
    "input": ("input()", Kind.FAILED, "EOFError"),
    "an endless loop": ("while True:\n    pass", Kind.TIMEOUT, "1 seconds"),
    "a loop that ignores signals": (
        "import signal\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):\n"
        "    signal.signal(s, signal.SIG_IGN)\nwhile True:\n    pass", Kind.TIMEOUT, "1 seconds",
    ),
    "a loop that catches everything": (
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        Kind.TIMEOUT, "1 seconds",
    ),
    "a sleep without output": (
        "import os, time\nos.closerange(0, 64)\ntime.sleep(600)", Kind.TIMEOUT, "1 seconds",
    ),
    "ten gigabytes": ("x = bytearray(10 << 30)", Kind.MEMORY, ""),
    "ten gigabytes bit by bit": ("x = []\nwhile True:\n    x.append(bytearray(1 << 20))", Kind.MEMORY, ""),
    "endless output": ("while True:\n    print('x' * 1000)", Kind.OUTPUT, "bytes"),
    "endless errors": ("import os\nwhile True:\n    os.write(2, b'x' * 1000)", Kind.OUTPUT, "bytes"),
    "a big file": (
        "with open('big', 'wb') as file:\n    while True:\n        file.write(bytes(1 << 20))", Kind.FAILED, "OSError",
    ),
    "a fork bomb": ("import os\nwhile True:\n    os.fork()", Kind.FAILED, "BlockingIOError"),
    "a fork bomb that goes on": (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        Kind.TIMEOUT, "1 seconds",
    ),
    "threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(600,)).start()",
        Kind.FAILED, "can't start new thread",
    ),
}  # fmt: skip
# Without namespaces, other processes of the user end meanwhile and leave room below the kernel's limit.
_BOMBS = ("a fork bomb", "a fork bomb that goes on", "threads")
_TOO_MANY = "more than 16 processes and threads"


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends(name: str, run: Run) -> None:
    source, kind, detail = ENDINGS[name]
    outcome = run(source, seconds=1 if kind is Kind.TIMEOUT else 30)
    if name in _BOMBS and _TOO_MANY in outcome.detail:
        return
    assert outcome.kind is kind, outcome
    assert detail in outcome.detail


def test_cpu_time_ends_before_the_clock_does(run: Run) -> None:
    outcome = run("while True:\n    pass", cpu_seconds=1)
    assert (outcome.kind, outcome.detail) == (Kind.TIMEOUT, "no end after 1 seconds of CPU time")


def test_five_hundred_processes_are_not_started(run: Run) -> None:
    started = run("""
import os, time
started = 0
for _ in range(500):
    try:
        if os.fork() == 0:
            time.sleep(600)
        started += 1
    except OSError:
        pass
raise ValueError(f"started {started}.")
""")
    counts = [f"started {count}." for count in range(3, 20)]
    assert any(text in started.detail for text in (_TOO_MANY, *counts)), started


def test_processes_that_hide_end_with_the_program(run: Run) -> None:
    mark = f"60{time.time_ns()}"
    outcome = run(f"""
import os
for hide in (os.setsid, os.setpgrp):
    if os.fork() == 0:
        try:
            hide()
        except OSError:
            pass
        if os.fork() == 0:
            os.execv("/usr/bin/sleep", ["sleep", "{mark}"])
        os._exit(0)
import time
time.sleep(0.5)
""")
    assert outcome.passed, outcome
    assert all_gone(processes(mark), mark)


@pytest.mark.parametrize(
    "message", ["'\\x1b[2J\\x07\\u202e' * 10**6", "'\\ud800' * 10", "lambda: 0", "Odd()", "Worse()", "'y' * (1 << 26)"]
)
def test_an_error_is_told_plainly(message: str, run: Run) -> None:
    outcome = run(f"""
class Odd:
    def __str__(self): raise ValueError
    def __reduce__(self): raise ValueError
class Worse:
    def __str__(self): raise SystemExit
class Local(Exception):
    pass
raise Local({message})
""")
    assert outcome.kind in (Kind.FAILED, Kind.EXITED)
    assert is_plain(outcome.detail)


def test_files_that_are_hard_to_remove_are_removed(run: Run) -> None:
    outcome = run("""
import os
for _ in range(1100):
    os.mkdir("deeper")
    os.chdir("deeper")
open("file", "w").close()
os.mkdir("locked", 0)
""")
    assert outcome.passed, outcome


def test_hashes_are_the_same_in_every_run(run: Run) -> None:
    outcomes = {run("raise ValueError(hash('a'))").detail for _ in range(2)}
    assert len(outcomes) == 1


def test_a_program_ends_with_who_asked_for_it(setup: Setup) -> None:
    mark = f"61{time.time_ns()}"
    before = folders()
    with served(setup) as (run, server):
        source = f"import os\nif os.fork() == 0:\n    os.execv('/usr/bin/sleep', ['sleep', '{mark}'])\nwhile True: pass"
        run(source, wait=False)
        deadline = time.monotonic() + PATIENCE
        while not processes(mark):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        suspects = processes() | processes(mark)
        os.kill(server, 9)
        assert all_gone(processes(mark), mark)
        assert all_gone(suspects)
    assert not folders() - before


def test_no_more_programs_run_at_once_than_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()
    supervised = sandbox._supervised

    def counted(request: Request) -> Ending:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return supervised(request)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(sandbox, "_supervised", counted)
    sources = [f"import time\ntime.sleep(0.2)\nassert {number} % 2" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(run_program, sources))
    assert [outcome.passed for outcome in outcomes] == [False, True] * 4
    assert most <= (os.cpu_count() or 1)


def test_a_sandbox_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SandboxError, match="without a report"):
        run_program("x = 1")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(bw.BranchwiseError, match="cannot be started"):
        run_program("x = 1")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="only on Linux; use a Linux machine"):
        run_program("x = 1")


@pytest.mark.parametrize("field", ["seconds", "cpu_seconds", "memory", "processes", "output", "files"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(bw.ConfigError, match=rf"Limits\.{field}: is 0; use more than 0"):
        Limits(**{field: 0})
