"""Landlock (Linux 5.13 and later): restricts the files a process can reach to given folders."""

import ctypes
import os
from collections.abc import Sequence

from branchwise.sandbox.jail import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_LAST_RIGHT = {1: 12, 2: 13, 3: 14, 4: 14}  # by ABI version: last bit of the file rights
_LATEST_RIGHT = 15
_TCP = 0b11  # bind and connect; since ABI 4
_OUTSIDE = 0b11  # abstract sockets of other processes and signals to them; since ABI 6
_OPEN_PATH = os.O_PATH | os.O_CLOEXEC


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scoped")]


class _Beneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def confine(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Restrict this process to these files and folders, and isolate it from other processes.

    Requires `kernel.forbid_new_privileges` first. Raises OSError if the kernel does not support it.
    """
    abi = kernel.system_call(_CREATE, None, 0, 1)
    everything = (2 << _LAST_RIGHT.get(abi, _LATEST_RIGHT)) - 1
    attributes = _Ruleset(everything, _TCP if abi >= 4 else 0, _OUTSIDE if abi >= 6 else 0)
    ruleset = kernel.system_call(
        _CREATE, attributes, ctypes.sizeof(attributes) if abi >= 6 else 16 if abi >= 4 else 8, 0
    )
    for paths, rights in ((readable, _EXECUTE | _READ | _LIST), (writable, everything)):
        for path in filter(os.path.exists, paths):
            _allow(ruleset, path, rights)
    kernel.system_call(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    if not os.path.isdir(path):
        rights &= _EXECUTE | _WRITE | _READ
    parent = os.open(path, _OPEN_PATH)
    try:
        kernel.system_call(_ADD_RULE, ruleset, 1, _Beneath(rights, parent), 0)
    finally:
        os.close(parent)
