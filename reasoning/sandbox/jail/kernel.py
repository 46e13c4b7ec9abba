"""Calls of the Linux kernel that Python has no function for."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

Argument = int | bytes | ctypes.Structure | ctypes.Array[ctypes.c_uint32] | None

_SUBREAPER, _PARENT_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SECCOMP = 36, 1, 38, 22
_CAPABILITIES_VERSION = 0x20080522


def call(name: str, *arguments: Argument) -> int:
    """A function of the C library. Raises OSError."""
    return _checked(name, getattr(_libc, name)(*map(_passed, arguments)))


def system_call(number: int, *arguments: Argument) -> int:
    """A system call that the C library may not know yet. Raises OSError."""
    return _checked(f"system call {number}", _libc.syscall(ctypes.c_long(number), *map(_passed, arguments)))


def _passed(argument: Argument) -> object:
    # Numbers as long as a register: the upper half of a shorter one may hold anything.
    if isinstance(argument, int):
        return ctypes.c_ulong(argument & (2**64 - 1))
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else argument


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def adopt_orphans() -> None:
    """Descendants whose parent ended become children of this process."""
    call("prctl", _SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """Be sent `signal` where the parent ends first. A change of user forgets it."""
    call("prctl", _PARENT_DEATH_SIGNAL, signal, 0, 0, 0)


def gain_nothing() -> None:
    """No program that is started from here on has more rights than this process."""
    call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def filter_system_calls(program: ctypes.Structure) -> None:
    """Install a filter (a `sock_fprog`) for this process and all it starts."""
    call("prctl", _SECCOMP, 2, program, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
