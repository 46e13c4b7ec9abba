"""Linux namespaces: a private system for a program, without network, other processes or the host's files.

Root creates them directly; other users need a user namespace, if the system permits it.
"""

import ctypes
import os
from collections.abc import Iterator, Sequence

from branchwise.sandbox.jail import kernel

_NEW_MOUNTS = 0x00020000
_NEW_HOSTNAME = 0x04000000
_NEW_IPC = 0x08000000
_NEW_USER = 0x10000000
_NEW_PIDS = 0x20000000
_NEW_NETWORK = 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4  # mount flags, equal for mount and mount_setattr
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_MOUNT_SETATTR, _AT_RECURSIVE, _DETACH = 442, 0x8000, 2
_HERE = -100  # AT_FDCWD
_ROOT = "/proc"  # mount point of the new root: exists on every system and is useless to a program
_DEVICES = ("null", "zero", "full", "random", "urandom")


class _Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def separate() -> None:
    """Enter new network, IPC and hostname namespaces (and a user namespace unless root), with new process ids for
    children.

    Raises OSError, with nothing changed, if the system does not permit it.
    """
    user, group = os.geteuid(), os.getegid()
    parts = _NEW_PIDS | _NEW_NETWORK | _NEW_IPC | _NEW_HOSTNAME
    if user == 0:
        kernel.call("unshare", parts)
        return
    kernel.call("unshare", parts | _NEW_USER)
    for file, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as out:
            out.write(line)


def enter_private_root(readable: Sequence[str], size: int) -> None:
    """Replace the file system by one in memory, of `size` bytes, that contains only the `readable` paths.

    The working folder /tmp and /dev/shm are writable. It vanishes with its last process. Raises OSError.
    """
    kernel.call("unshare", _NEW_MOUNTS)
    kernel.call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    options = f"size={size},nr_inodes=4096,mode=755".encode()
    kernel.call("mount", b"tmpfs", _ROOT.encode(), b"tmpfs", _NO_SUID | _NO_DEVICES, options)
    for path in _outermost(readable):
        _expose(path)
    os.mkdir(f"{_ROOT}/dev")
    for name in _DEVICES:
        _bind(f"/dev/{name}")
    for folder in ("tmp", "dev/shm"):
        os.mkdir(f"{_ROOT}/{folder}")
        os.chmod(f"{_ROOT}/{folder}", 0o1777)
    os.chdir(_ROOT)
    kernel.call("pivot_root", b".", b".")
    kernel.call("umount2", b".", _DETACH)
    os.chdir("/tmp")


def _outermost(paths: Sequence[str]) -> Iterator[str]:
    """Yield the existing paths that are not inside another one."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths if os.path.exists(path)}):
        if not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
            yield path


def _expose(path: str) -> None:
    """Make a path readable in the new root."""
    os.makedirs(_ROOT + os.path.dirname(path), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), _ROOT + path)
        return
    _bind(path)
    attributes = _Attributes(_READ_ONLY | _NO_SUID | _NO_DEVICES, 0, 0, 0)
    target = (_ROOT + path).encode()
    kernel.system_call(_MOUNT_SETATTR, _HERE, target, _AT_RECURSIVE, attributes, ctypes.sizeof(attributes))


def _bind(path: str) -> None:
    target = _ROOT + path
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.call("mount", path.encode(), target.encode(), None, _BIND | _RECURSIVE, None)
