"""Linux system calls without a Python function."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

Argument = int | bytes | ctypes.Structure | ctypes.Array[ctypes.c_uint32] | None

_SUBREAPER, _PARENT_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES, _SECCOMP = 36, 1, 4, 38, 22
_CAPABILITIES_VERSION = 0x20080522


def call(name: str, *arguments: Argument) -> int:
    """Call a function of the C library. Raises OSError."""
    return _checked(name, getattr(_libc, name)(*map(_converted, arguments)))


def system_call(number: int, *arguments: Argument) -> int:
    """Make a system call that the C library may not wrap. Raises OSError."""
    return _checked(f"system call {number}", _libc.syscall(ctypes.c_long(number), *map(_converted, arguments)))


def _converted(argument: Argument) -> object:
    # Full register width: the upper half of a shorter number is undefined.
    if isinstance(argument, int):
        return ctypes.c_ulong(argument & (2**64 - 1))
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else argument


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends."""
    call("prctl", _SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """Receive `signal` when the parent ends. A change of user clears this setting."""
    call("prctl", _PARENT_DEATH_SIGNAL, signal, 0, 0, 0)


def hide_memory() -> None:
    """Prevent other processes of this user from reading or tracing this one and its later children."""
    call("prctl", _DUMPABLE, 0, 0, 0, 0)


def show_memory() -> None:
    """Permit other processes of this user to read this one, so that what it uses is counted."""
    call("prctl", _DUMPABLE, 1, 0, 0, 0)


def forbid_new_privileges() -> None:
    """Prevent this process and its children from gaining privileges (no_new_privs)."""
    call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def filter_system_calls(program: ctypes.Structure) -> None:
    """Install a seccomp filter (a `sock_fprog`) for this process and its children."""
    call("prctl", _SECCOMP, 2, program, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
