"""Run Python where the kernel refuses layers of the sandbox, as old kernels and strict containers do."""

import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import chain, combinations

from branchwise.sandbox.sandbox import Layers
from tests.support.sandboxes import SERVE, Setup

DENIED_LAYERS = tuple(
    chain.from_iterable(combinations(Layers._fields, count) for count in range(len(Layers._fields) + 1))
)

# Installs a filter of system calls: unshare and the calls of Landlock fail; so does a further filter, which comes last.
_DENY = """
import ctypes, errno, os, platform, sys
import branchwise.sandbox.sandbox  # another user may not read it
denied, user, interpreter = sys.argv[1].split(), int(sys.argv[2]), sys.argv[3]
arm = platform.machine() == "aarch64"
class Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]
class Steps(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(Step))]
steps = [(0x20, 0, 0, 0)]
def deny(number, error):
    steps.extend([(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)])
if "namespaces" in denied:
    deny(97 if arm else 272, errno.EPERM)
if "landlock" in denied:
    deny(444, errno.ENOSYS)
if "seccomp" in denied:
    deny(277 if arm else 317, errno.ENOSYS)
    refused = 0x00050000 | errno.EINVAL
    prctl = 167 if arm else 157
    steps += [(0x15, 0, 4, prctl), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (0x06, 0, 0, refused), (0x20, 0, 0, 0)]
steps.append((0x06, 0, 0, 0x7FFF0000))
libc = ctypes.CDLL(None, use_errno=True)
table = (Step * len(steps))(*(Step(*step) for step in steps))
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Steps(len(steps), table)), 0, 0) == 0
sys.executable = interpreter
source, sys.argv = sys.argv[4], ["denied", *sys.argv[5:]]
exec(compile(source, "<denied>", "exec"), {"__name__": "__main__"})
"""


def without(denied: tuple[str, ...], setup: Setup, source: str, *arguments: str, environment: Mapping[str, str]) -> str:
    """Run Python source as the setup's user where `denied` layers are refused; return what it prints."""
    command = _command(denied, setup, source, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environment), cwd=os.sep)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def serving(denied: tuple[str, ...], setup: Setup) -> list[str]:
    """Return the command of a process that runs programs, as `served` starts it, where `denied` layers are refused."""
    return _command(denied, setup, SERVE, "0", setup.interpreter, setup.layers)


def _command(denied: tuple[str, ...], setup: Setup, source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", _DENY, " ".join(denied), str(setup.user), setup.interpreter, source, *arguments]
