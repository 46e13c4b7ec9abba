"""System call filter (seccomp): no network, no access to other processes, no new privileges.

Calls newer than this list fail as missing.
"""

import ctypes
import errno
import os
import platform
from typing import NamedTuple

from branchwise.sandbox.jail import kernel


class _Numbers(NamedTuple):
    """A system call's numbers on x86-64 and 64-bit ARM; None if it does not exist there."""

    x86_64: int | None
    aarch64: int | None


def _table(text: str) -> dict[str, _Numbers]:
    """Parse `name x86-64 ARM` entries, separated by commas; `-` is no number, `#` starts a comment."""
    entries = (
        entry.split() for line in text.splitlines() for entry in line.partition("#")[0].split(",") if entry.strip()
    )
    return {
        name: _Numbers(*(None if number == "-" else int(number) for number in numbers)) for name, *numbers in entries
    }


# Calls that reach outside the process, whatever its other confinement.
_DENIED = _table(
    """
    socket 41 198, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, ptrace 101 117,
    process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272, process_madvise 440 440,
    process_mrelease 448 448, pidfd_getfd 438 438, move_pages 279 239, migrate_pages 256 238, unshare 272 97,
    setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, move_mount 429 429,
    open_tree 428 428, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442,
    bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, add_key 248 217, request_key 249 218,
    keyctl 250 219, kexec_load 246 104, kexec_file_load 320 294, init_module 175 105, finit_module 313 273,
    delete_module 176 106, reboot 169 142, swapon 167 224, swapoff 168 225, acct 163 89, quotactl 179 60,
    quotactl_fd 443 443, syslog 103 116, settimeofday 164 170, clock_settime 227 112, adjtimex 159 171,
    clock_adjtime 305 266, sethostname 170 161, setdomainname 171 162, personality 135 92,
    name_to_handle_at 303 264, open_by_handle_at 304 265, fanotify_init 300 262, vhangup 153 58, iopl 172 -,
    ioperm 173 -, modify_ldt 154 -,
    # Memory that process limits do not count, or that outlives the process.
    memfd_create 319 279, memfd_secret 447 447, shmget 29 194, msgget 68 186, semget 64 190, mq_open 240 180,
    """
)
# Calls that reach other processes of the same user, or leave the process group that is killed at the end.
_DENIED_AMONG_OTHERS = _table(
    """
    setpgid 109 154, setsid 112 157, pidfd_send_signal 424 424, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
    tkill 200 130, setpriority 141 140, ioprio_set 251 30,
    """
)
_OWN_PROCESS_ONLY = _table(
    """
    kill 62 129, tgkill 234 131, prlimit64 302 261, sched_setaffinity 203 122, sched_setscheduler 144 119,
    sched_setparam 142 118, sched_setattr 314 274,
    """
)
_NOT_OF_OTHERS = {
    "fcntl": ((72, 25), (8, 15)),
    "ioctl": ((16, 29), (0x8901, 0x8902)),
}  # commands that set the receiver of a file's signals
# Calls that change files without access to their contents: Landlock does not restrict them.
_DENIED_AMONG_FILES = _table(
    """
    truncate 76 45, chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, lchown 94 -, fchown 93 55,
    fchownat 260 54, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15,
    fremovexattr 199 16, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88,
    """
)
_SOCKETPAIR, _CLONE, _CLONE3, _PRCTL = (53, 199), (56, 220), (435, 435), (157, 167)
# Signal at the parent's end, hidden memory, adoption of orphans: how this process is ended and counted.
_PRCTL_DENIED = (1, 4, 36)
_LAST_KNOWN = 450
_NEW_NAMESPACES = 0x7E020000
_UNIX = 1  # AF_UNIX

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # index into _Numbers; AUDIT_ARCH
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_DENY, _MISSING = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data


class _Instruction(NamedTuple):
    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


class _Filter(ctypes.Structure):
    """`struct sock_filter`."""

    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Filter))]


def restrict(*, alone: bool, private_root: bool) -> None:
    """Install the filter for this process and its children. `alone`: other processes have no ids here.

    Raises OSError if the system does not support it.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call filter for {machine}")
    code = _instructions(machine, alone, private_root)
    table = (_Filter * len(code))(*(_Filter(one.code, one.if_true, one.if_false, one.value) for one in code))
    kernel.filter_system_calls(_Program(len(code), table))


def _instructions(machine: str, alone: bool, private_root: bool) -> list[_Instruction]:
    which, architecture = _ARCHITECTURES[machine]
    denied = _DENIED | ({} if alone else _DENIED_AMONG_OTHERS) | ({} if private_root else _DENIED_AMONG_FILES)
    code = [
        _Instruction(_LOAD, _ARCHITECTURE),
        _Instruction(_EQUAL, architecture, 1, 0),
        _Instruction(_RETURN, _KILL),
        _Instruction(_LOAD, _NUMBER),
        _Instruction(_GREATER, _LAST_KNOWN, 0, 1),  # x32 calls included
        _Instruction(_RETURN, _MISSING),
        *_when(_CLONE3[which], _MISSING),  # its flags are behind a pointer; the C library falls back to clone
    ]
    for number in _existing(denied, which):
        code += _when(number, _DENY)
    code += _by_argument(_CLONE[which], 0, _Instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _DENY)
    code += _by_argument(_SOCKETPAIR[which], 0, _Instruction(_EQUAL, _UNIX, 1, 0), _DENY)
    for option in _PRCTL_DENIED:
        code += _by_argument(_PRCTL[which], 0, _Instruction(_EQUAL, option, 0, 1), _DENY)
    if not alone:
        own = os.getpid()
        for number in _existing(_OWN_PROCESS_ONLY, which):
            code += [
                _Instruction(_EQUAL, number, 0, 5),
                _Instruction(_LOAD, 16),
                _Instruction(_EQUAL, own, 2, 0),
                _Instruction(_EQUAL, 0, 1, 0),
                _Instruction(_RETURN, _DENY),
                _Instruction(_RETURN, _ALLOW),
            ]
        for pair, commands in _NOT_OF_OTHERS.values():
            for command in commands:
                code += _by_argument(pair[which], 1, _Instruction(_EQUAL, command, 0, 1), _DENY)
    return [*code, _Instruction(_RETURN, _ALLOW)]


def _existing(table: dict[str, _Numbers], which: int) -> list[int]:
    """Return the numbers of the calls that exist on an architecture."""
    return [number for numbers in table.values() if (number := numbers[which]) is not None]


def _when(number: int, verdict: int) -> list[_Instruction]:
    return [_Instruction(_EQUAL, number, 0, 1), _Instruction(_RETURN, verdict)]


def _by_argument(number: int, argument: int, test: _Instruction, verdict: int) -> list[_Instruction]:
    """Return the verdict unless `test`, of the argument's lower half, jumps over it; both CPUs are little-endian."""
    return [
        _Instruction(_EQUAL, number, 0, 4),
        _Instruction(_LOAD, 16 + 8 * argument),
        test,
        _Instruction(_RETURN, verdict),
        _Instruction(_LOAD, _NUMBER),
    ]
