"""The process that a program runs in: it locks itself in, and throws away the key."""

import fcntl
import linecache
import os
import platform
import resource
import signal
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from branchwise.sandbox.jail import kernel, landlock, namespaces, system_calls
from branchwise.sandbox.jail.messages import Ready, Request, encode

_REPORT, _PROOF, _READY = 3, 4, 5  # file descriptors, after the standard ones
_OPEN_FILES = 64
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PERMIT = "permit user namespaces, or use a kernel that has them"
_LONGEST = 8000  # bytes of an error's text that are told
_FRAMES = 8
_PROGRAM = "<program>"


class _User(NamedTuple):
    """Whom the program runs as."""

    user: int
    group: int


def run(request: Request, apart: bool, output: int, ready: int) -> NoReturn:
    """Run the program and end; `apart`: in namespaces. What it writes goes to `output`; `ready` is told first."""
    leave = os._exit  # the program may put something else in its place
    try:
        os.setpgid(0, 0)
        _keep_only(request, output, ready)
        try:
            told = _lock_in(request, apart)
        except Exception as error:  # whatever it is, it is told
            told = Ready(f"it can't be set up ({error})", _PERMIT)
        os.write(_READY, encode(told))
        os.close(_READY)
        if told.problem is None:
            _run_program(request.source)
    finally:
        leave(0)


def _keep_only(request: Request, output: int, ready: int) -> None:
    """The file descriptors that a program has, and no others."""
    nothing = os.open("/dev/null", os.O_RDWR)
    wanted = (nothing, output, output, request.report, request.proof, ready)
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, len(wanted)) for descriptor in wanted]  # out of each other's way
    for descriptor, copy in enumerate(copies):
        os.dup2(copy, descriptor)
    os.closerange(len(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _lock_in(request: Request, apart: bool) -> Ready:
    """Leave nothing within reach but what is the program's own. Raises OSError."""
    readable = (sys.base_prefix, sys.base_exec_prefix, *_LIBRARIES)
    was_root = os.geteuid() == 0
    user = _fresh_user() if was_root else None  # before /proc is gone
    others = 0 if was_root or (apart and _counts_by_namespace()) else _processes_of(os.getuid())
    private_root = apart and _works(lambda: namespaces.enter_private_root(readable, request.files))
    made = None if private_root else tempfile.mkdtemp(prefix="branchwise-")
    folder = made or "/tmp"
    if was_root and user is None:
        return Ready("root can't become another user here", "run as a user that is not root", made)
    _limit(request, others)
    if user is not None:
        if made is not None:
            os.chown(made, user.user, user.group)
        os.setgroups([])
        os.setresgid(user.group, user.group, user.group)
        os.setresuid(user.user, user.user, user.user)
    with suppress(OSError):
        kernel.drop_capabilities()
    kernel.gain_nothing()
    kernel.die_with_parent(signal.SIGKILL)
    if not os.access(os.path.dirname(os.__file__), os.R_OK | os.X_OK):
        why = f"the user that programs run as can't read {sys.base_prefix}"
        return Ready(why, "install Python where every user can read it", made)
    os.chdir(folder)
    confined = private_root or _works(lambda: landlock.confine(readable, (folder, *_DEVICES)))
    filtered = _works(lambda: system_calls.restrict(alone=apart, private_root=private_root))
    if not (apart or filtered):
        return Ready("neither namespaces nor a filter of system calls can be had", _PERMIT, made)
    if not (private_root or was_root or (confined and filtered)):
        return Ready("files can't be protected, by a root of its own nor by Landlock and a filter", _PERMIT, made)
    os.environ.update(HOME=folder, TMPDIR=folder, PATH=os.defpath)
    tempfile.tempdir = None  # to be found anew
    return Ready(folder=made)


def _works(layer: Callable[[], None]) -> bool:
    """Whether the system permits a layer."""
    try:
        layer()
    except OSError:
        return False
    return True


def _fresh_user() -> _User | None:
    """Ids that nobody else has, so that limits count this program's processes alone. None: root is all there is."""
    ids = [_fresh_id(f"/proc/self/{kind}_map") for kind in ("uid", "gid")]
    user, group = ids
    return None if user is None or group is None else _User(user, group)


def _fresh_id(file: str) -> int | None:
    """One from the upper half of the longest range."""
    with open(file, encoding="ascii") as lines:
        ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
    first, count = max(ranges, key=lambda one: one[1])
    most = min(count, 1 << 31)
    if most < 2:
        return None
    half = most // 2
    return first + half + int.from_bytes(os.urandom(4), "little") % (most - half)


def _counts_by_namespace() -> bool:
    """Whether a limit of processes counts those of the user namespace alone."""
    return tuple(map(int, platform.release().split(".", 2)[:2])) >= (5, 14)


def _processes_of(user: int) -> int:
    """How many processes and threads a user has."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == user:
                found += len(os.listdir(f"/proc/{name}/task"))
    return found


def _limit(request: Request, others: int) -> None:
    limits = {
        resource.RLIMIT_AS: request.memory,
        resource.RLIMIT_CPU: request.cpu_seconds,
        resource.RLIMIT_NPROC: others + request.processes,
        resource.RLIMIT_FSIZE: request.files,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (wanted, wanted))


def _run_program(source: str) -> None:
    """Report the proof, or what went wrong."""
    module = types.ModuleType("program")
    sys.modules["program"] = sys.modules["__main__"] = module
    sys.argv = ["program"]
    # Not a virtual environment's, which is not within reach.
    sys.executable = f"{sys.base_exec_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    linecache.cache[_PROGRAM] = (len(source), None, source.splitlines(keepends=True), _PROGRAM)
    try:
        _prove(compile(source, _PROGRAM, "exec", dont_inherit=True), module.__dict__)
    except MemoryError:
        module.__dict__.clear()
        os.write(_REPORT, b"memory\n")
    except SystemExit as error:
        os.write(_REPORT, b"left\n" + _told(error))
    except BaseException as error:
        os.write(_REPORT, b"failed\n" + _told(error))


def _prove(code: types.CodeType, names: dict[str, object]) -> None:
    """Run a program; the proof that it came to its end is reported if it does.

    While it runs, the proof is on this frame's evaluation stack alone: no frame's variables, no constant, no
    container and no open file holds it.
    """
    os.write(_REPORT, _take(_PROOF) + _execute(code, names))


def _take(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0) as file:
        return file.readall()


def _execute(code: types.CodeType, names: dict[str, object]) -> bytes:
    exec(code, names)
    return b""


def _told(error: BaseException) -> bytes:
    """An error's text, from the program's own frames on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != _PROGRAM:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace, limit=-_FRAMES))
    return text.encode(errors="replace")[-_LONGEST:]
