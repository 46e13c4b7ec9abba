"""Process that runs a program: it confines itself irrevocably first. `supervisor` forks it."""

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
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, NoReturn

from branchwise.sandbox.jail import called, checker, kernel, landlock, namespaces, peer, processes, system_calls
from branchwise.sandbox.jail import folder as temporary
from branchwise.sandbox.jail.messages import Ready, Request, encode

_FIRST = 3  # first file descriptor after the standard ones
_REPORT, _PROOF = 3, 4
_PROOF_SIZE = 32
_OPEN_FILES = 64
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PERMIT = "permit user namespaces, or use a kernel that has them"
_ALLOW = f"{_PERMIT}; or set BRANCHWISE_WEAK_SANDBOX=1 to run programs with what holds"
_LONGEST = 8000  # bytes reported of an error's text
_FRAMES = 8
_OURS = 2  # processes of the supervisor in its user namespace, besides the runners
_PROGRAM, _TESTS = "<program>", "<tests>"


class _User(NamedTuple):
    """User and group that run the program."""

    user: int
    group: int


class Role(NamedTuple):
    """Part of a process in a run ("alone", "checker", or "called" by a checker), and its files from descriptor 3 on."""

    name: str
    files: tuple[int, ...]


def run(request: Request, isolated: bool, role: Role, private: str, output: int, ready: int) -> NoReturn:
    """Confine this process, report to `ready`, run the program and exit.

    `isolated`: in new namespaces. `private`: folder to make where files are not. The program's output goes to `output`.
    """
    leave = os._exit  # the program may replace os._exit
    try:
        os.setpgid(0, 0)
        _keep_only(output, (*role.files, ready))
        ready = _FIRST + len(role.files)
        try:
            state = _confine(request, isolated, role, private)
        except Exception as error:  # every failure must be reported
            state = Ready(f"it cannot be set up ({error})", _PERMIT)
        os.write(ready, encode(state._replace(role=role.name, process=os.getpid())))
        os.close(ready)
        if state.problem is None:
            _perform(role.name, request)
    finally:
        leave(0)


def _keep_only(output: int, files: tuple[int, ...]) -> None:
    """Keep only a role's file descriptors open."""
    nothing = os.open("/dev/null", os.O_RDWR)
    wanted = (nothing, output, output, *files)
    copies = [
        fcntl.fcntl(descriptor, fcntl.F_DUPFD, len(wanted)) for descriptor in wanted
    ]  # copies above the targets, so that none is overwritten
    for descriptor, copy in enumerate(copies):
        os.dup2(copy, descriptor)
    os.closerange(len(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _confine(request: Request, isolated: bool, role: Role, private: str) -> Ready:
    """Confine this process to its own files and processes. Raises OSError."""
    readable = (sys.base_prefix, sys.base_exec_prefix, *_LIBRARIES)
    was_root = os.geteuid() == 0
    user = _fresh_user() if was_root else None  # before /proc disappears
    others = 0 if was_root else _OURS if isolated and _counts_by_namespace() else processes.count_of(os.getuid())
    private_root = isolated and _succeeds(lambda: namespaces.enter_private_root(readable, request.files))
    folder = "/tmp" if private_root else temporary.make(private, role.name)
    if was_root and user is None:
        return Ready("root cannot become another user here", "run as a user other than root")
    _limit(request, others)
    if user is not None:
        if not private_root:
            os.chown(folder, user.user, user.group)
        os.setgroups([])
        os.setresgid(user.group, user.group, user.group)
        os.setresuid(user.user, user.user, user.user)
    with suppress(OSError):
        kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    kernel.die_with_parent(signal.SIGKILL)
    if role.name == "checker":
        kernel.hide_memory()
    else:
        kernel.show_memory()
    if not os.access(os.path.dirname(os.__file__), os.R_OK | os.X_OK):
        why = f"the user that runs programs cannot read {sys.base_prefix}"
        return Ready(why, "install Python where every user can read it")
    os.chdir(folder)
    writable = (folder, *_DEVICES, *(["/dev/shm"] if private_root else []))
    confined = _succeeds(lambda: landlock.confine(readable, writable))
    filtered = _succeeds(lambda: system_calls.restrict(alone=isolated, private_root=private_root))
    held = {"namespaces": isolated and private_root, "landlock": confined, "seccomp": filtered}
    layers = tuple(name for name, holds in held.items() if holds)
    whole = held["namespaces"] or (confined and filtered)
    if not whole and (request.strict or not was_root or not (isolated or filtered)):
        return Ready(_missing(held), _ALLOW if was_root and (isolated or filtered) else _PERMIT, layers)
    os.environ.update(HOME=folder, TMPDIR=folder, PATH=os.defpath)
    tempfile.tempdir = None  # recomputed from TMPDIR
    return Ready(layers=layers)


def _missing(held: dict[str, bool]) -> str:
    missing = ", ".join(name for name, holds in held.items() if not holds)
    return f"too few layers hold: {missing} missing; it needs namespaces, or landlock and seccomp"


def _succeeds(layer: Callable[[], None]) -> bool:
    """Apply a layer; return whether the system permits it."""
    try:
        layer()
    except OSError:
        return False
    return True


def _fresh_user() -> _User | None:
    """Return unused ids, so that limits count only this program's processes; None if only root is mapped."""
    ids = [_fresh_id(f"/proc/self/{kind}_map") for kind in ("uid", "gid")]
    user, group = ids
    return None if user is None or group is None else _User(user, group)


def _fresh_id(file: str) -> int | None:
    """Return a random id from the upper half of the largest mapped range."""
    with open(file, encoding="ascii") as lines:
        ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
    first, count = max(ranges, key=lambda one: one[1])
    most = min(count, 1 << 31)
    if most < 2:
        return None
    half = most // 2
    return first + half + int.from_bytes(os.urandom(4), "little") % (most - half)


def _counts_by_namespace() -> bool:
    """Return whether the process limit counts only the user namespace (Linux 5.14 and later)."""
    return tuple(map(int, platform.release().split(".", 2)[:2])) >= (5, 14)


def _limit(request: Request, others: int) -> None:
    limits = {
        resource.RLIMIT_AS: request.memory,
        resource.RLIMIT_CPU: request.cpu_seconds,
        resource.RLIMIT_NPROC: others + request.processes + (request.names is not None),
        resource.RLIMIT_FSIZE: request.files,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (wanted, wanted))


def _perform(role: str, request: Request) -> None:
    """Run the program or its tests and report the proof or the failure."""
    module = types.ModuleType("program")
    sys.modules["program"] = sys.modules["__main__"] = module
    sys.argv = ["program"]
    # The base interpreter: a virtual environment is not readable here.
    sys.executable = f"{sys.base_exec_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if role == "called":
        called.serve(lambda: _failure(lambda: _execute(request.source, module, _PROGRAM)), module, request.names or ())
        return
    prove = partial(_prove_tests, request.names or ()) if role == "checker" else partial(_prove, request.source)
    failure = _failure(lambda: prove(module))
    if failure is not None:
        word, text = failure
        os.write(_REPORT, f"{word}\n".encode() + text)


def _failure(execute: Callable[[], object]) -> tuple[str, bytes] | None:
    """Run; return the kind and text of the failure, None if there was none or the program exited."""
    try:
        execute()
    except MemoryError:
        sys.modules["program"].__dict__.clear()
        return "memory", b""
    except peer.EndedError:
        return None
    except checker.ProgramFailedError as error:
        return error.word, error.text.encode(errors="replace")
    except SystemExit as error:
        return "left", _error_text(error)
    except BaseException as error:
        return "failed", _error_text(error)
    return None


def _prove(source: str, module: types.ModuleType) -> None:
    """Run a program and report the proof if it reaches its end.

    While it runs, the proof is only on this frame's evaluation stack, in no variable, constant, container or open file.
    """
    os.write(_REPORT, _take(_PROOF) + _execute(source, module, _PROGRAM))


def _prove_tests(names: Sequence[str], module: types.ModuleType) -> None:
    """Run the tests of a program in another process and report the proof if they reach their end.

    Tests that expect an exception may also catch the one for the program's exit, which fails them.
    """
    given = _take(_PROOF)
    connection = checker.connect(module, names)
    _execute(given[_PROOF_SIZE:].decode(errors="surrogatepass"), module, _TESTS)
    if connection.ended:
        raise peer.EndedError
    os.write(_REPORT, given[:_PROOF_SIZE])


def _take(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0) as file:
        return file.readall()


def _execute(source: str, module: types.ModuleType, name: str) -> bytes:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    return b""


def _error_text(error: BaseException) -> bytes:
    """Format an error, starting at the program's own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename not in (_PROGRAM, _TESTS):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace, limit=-_FRAMES))
    text += str(getattr(error, "program_trace", ""))
    return text.encode(errors="replace")[-_LONGEST:]
