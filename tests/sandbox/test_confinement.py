"""Hostile programs reach no network, files, secrets, privileges or proof."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from branchwise.sandbox.outcome import Kind
from tests.support.sandboxes import SECRET, Run, Setup, is_plain

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")


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
    assert os.getpid() > os.getppid() == 1
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
