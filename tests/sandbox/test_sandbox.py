"""What programs can't do, whatever they try, and that nothing of them stays behind."""

import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.sandbox import sandbox
from branchwise.sandbox.sandbox import Kind, Limits, SandboxError, run_program
from tests.support.sandboxes import SECRET, Run, Setup, folders, processes, served, setups

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

_PATIENCE = 40.0  # seconds: the machine may be busy
_GONE = 15.0


@pytest.fixture(scope="module", params=setups())
def setup(request: pytest.FixtureRequest) -> Setup:
    """One of the ways in which this machine can run programs."""
    return setups()[request.param]


@pytest.fixture(scope="module")
def run(setup: Setup) -> Iterator[Run]:
    """Runs a program so; nobody's processes or folders are left at the end, and it does not take long."""
    with served(setup) as (unchecked, _):

        def checked(source: str, **limits: float) -> sandbox.Outcome:
            before, begun = folders(), time.monotonic()
            outcome = unchecked(source, **limits)
            assert time.monotonic() - begun < _PATIENCE
            assert all_gone(processes())
            assert not folders() - before
            return outcome

        yield checked


def all_gone(suspects: set[int], mark: str = "sandbox.jail.supervisor") -> bool:
    """Whether processes are gone; others that are tested beside them end soon, too."""
    deadline = time.monotonic() + _GONE
    while suspects and time.monotonic() < deadline:
        suspects &= processes(mark)
        time.sleep(0.01)
    return not suspects


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


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends(name: str, run: Run) -> None:
    source, kind, detail = ENDINGS[name]
    outcome = run(source, seconds=1 if kind is Kind.TIMEOUT else 30)
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
    assert any(f"started {count}." in started.detail for count in range(3, 20)), started


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


def test_there_is_no_network(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        server.settimeout(0.5)
        local = socket.socket(socket.AF_UNIX)
        local.bind(f"{folder}/socket")
        local.listen()
        os.chmod(f"{folder}/socket", 0o777)
        local.settimeout(0.5)
        outcome = run(f"""
import socket
targets = [
    lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 5),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53)),
    lambda: socket.socket(socket.AF_INET6),
    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    lambda: socket.socket(socket.AF_UNIX).connect("{folder}/socket"),
]
reached = []
for number, target in enumerate(targets):
    try:
        target()
        reached.append(number)
    except OSError:
        pass
assert not reached, reached
import asyncio
asyncio.run(asyncio.sleep(0))  # needs a pair of sockets of its own
""")
        assert outcome.passed, outcome
        for listening in (server, local):
            with pytest.raises(TimeoutError):
                listening.accept()
        local.close()


def test_the_proof_is_out_of_reach(run: Run) -> None:
    """It is not among variables, constants, containers, arguments, open files and the environment."""
    outcome = run("""
import gc, os, sys
def frames():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
    yield from sys._current_frames().values()
seen, found = set(), set()
todo = [sys.argv, dict(os.environ), sys.modules, *gc.get_objects()]
for frame in frames():
    todo += [frame, frame.f_locals, frame.f_globals, frame.f_code.co_consts, *gc.get_referents(frame)]
while todo:
    one = todo.pop()
    if id(one) in seen:
        continue
    seen.add(id(one))
    if isinstance(one, (bytes, bytearray)) and len(one) == 32:
        found.add(bytes(one))
    todo += gc.get_referents(one)
for number in range(64):
    if number != 3:
        try:
            os.set_blocking(number, False)
            found.add(os.read(number, 32))
        except OSError:
            pass
for proof in found:
    if len(proof) == 32:
        os.write(3, proof)
        os._exit(0)
os.write(3, b"x" * 32)
os._exit(0)
""")
    assert outcome.kind is Kind.EXITED, outcome


def test_what_is_written_in_place_of_the_proof_is_none(run: Run) -> None:
    assert run("import os\nos.write(3, b'x')").kind is Kind.EXITED
    outcome = run("import os\nos.write(3, b'failed\\n' + b'\\x1b[31m\\x00\\xff' * 5000)\nos._exit(0)")
    assert outcome.kind is Kind.FAILED
    assert is_plain(outcome.detail)


def is_plain(text: str) -> bool:
    return len(text) <= 2000 and all(c.isprintable() or c == "\n" for c in text)


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


def test_keys_in_the_environment_are_not_seen(run: Run) -> None:
    outcome = run(f"""
import glob, os
assert "{SECRET[0]}" not in os.environ
for file in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline"):
    try:
        content = open(file, "rb").read()
    except OSError:
        continue
    assert b"{SECRET[1]}" not in content, file
""")
    assert outcome.passed, outcome


def test_files_of_others_are_out_of_reach(run: Run) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "file")
        file.write_text("precious")
        os.chmod(folder, 0o777)
        os.chmod(file, 0o666)
        if os.geteuid() == 0:
            os.chown(folder, 54321, 54321)
            os.chown(file, 54321, 54321)
        before = file.stat()
        outcome = run(f"""
import os, shutil, tempfile
file = "{file}"
attempts = [
    lambda: open(file).read(), lambda: open(file, "w"), lambda: os.remove(file), lambda: os.truncate(file, 0),
    lambda: os.chmod(file, 0), lambda: os.chmod("{folder}", 0), lambda: os.utime(file, (0, 0)),
    lambda: os.rename(file, file + "x"), lambda: os.link(file, "link"), lambda: os.listdir("{folder}"),
    lambda: open("{folder}/new", "w"), lambda: os.mkdir("{folder}/new"), lambda: os.listdir("/home"),
    lambda: os.listdir("/proc/1"), lambda: os.mknod("{folder}/fifo"), lambda: shutil.rmtree("{folder}"),
    lambda: open("/etc/passwd").read(), lambda: os.symlink("x", "{folder}/link"),
]
done = []
for number, attempt in enumerate(attempts):
    try:
        attempt()
        done.append(number)
    except OSError:
        pass
assert not done, done
open("mine", "w").write("x")
with tempfile.TemporaryFile() as own:
    own.write(b"x")
os.remove("mine")
assert not os.listdir("."), os.listdir(".")
""")
        assert outcome.passed, outcome
        assert os.listdir(folder) == ["file"]
        assert file.read_text() == "precious"
        after = file.stat()
        assert (after.st_mode, after.st_mtime, after.st_uid) == (before.st_mode, before.st_mtime, before.st_uid)


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


def test_nothing_is_gained(run: Run, setup: Setup) -> None:
    """No rights, no namespaces, no hold on other processes."""
    outcome = run(f"""
import ctypes, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
assert os.getuid() != 0 and os.getgroups() in ([], [os.getgid()], [65534]), (os.getuid(), os.getgroups())
def refused(call, *arguments):
    try:
        return call(*arguments) == -1
    except OSError:
        return True
assert refused(os.setuid, 0)
assert refused(os.setgroups, [0])
assert refused(libc.unshare, 0x10000000)
assert refused(libc.ptrace, 16, os.getppid() or 1, 0, 0)
assert refused(libc.mount, b"tmpfs", b"/tmp", b"tmpfs", 0, None)
assert refused(libc.syscall, 56, 0x10000011, 0, 0, 0, 0)  # clone with new users
assert refused(libc.syscall, 425, 8, 0)  # io_uring
if "{setup.layers}" == "filter":
    for victim in (os.getppid(), -1, -os.getppid(), 1):
        assert refused(os.kill, victim, 0)
    assert refused(resource.prlimit, os.getppid(), resource.RLIMIT_CPU, (1, 1))
    assert refused(os.setpriority, os.PRIO_PROCESS, os.getppid(), 19)
else:
    assert os.getpid() == 1 and os.getppid() == 0
""")
    assert outcome.passed, outcome


def test_a_program_has_what_programs_need(run: Run) -> None:
    outcome = run("""
import dataclasses, decimal, json, multiprocessing, os, random, sqlite3, ssl, subprocess, sys, threading, uuid
from __main__ import json as same
@dataclasses.dataclass
class Point:
    x: "int"
assert __name__ == "program" and Point(1) == Point(1)
thread = threading.Thread(target=random.random)
thread.start()
thread.join()
assert subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout == "42\\n"
assert os.urandom(4) and uuid.uuid4() and multiprocessing.cpu_count()
assert sys.argv == ["program"]
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
        deadline = time.monotonic() + _PATIENCE
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

    def counted(request: sandbox.Request) -> sandbox.Ending:
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
    with pytest.raises(SandboxError, match="said nothing"):
        run_program("x = 1")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(bw.BranchwiseError, match="can't be started"):
        run_program("x = 1")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="on Linux alone; use a Linux machine"):
        run_program("x = 1")


@pytest.mark.parametrize("field", ["seconds", "cpu_seconds", "memory", "processes", "output", "files"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(bw.ConfigError, match=rf"Limits\.{field}: is 0; use more than 0"):
        Limits(**{field: 0})
