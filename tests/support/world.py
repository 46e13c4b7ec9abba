"""Files, sockets, a process and shared memory that hostile programs could reach, checked for changes."""

import ctypes
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.sandboxes import Setup

SECRET = "a secret of the machine"
PLACES = ("/tmp", "/dev/shm", "/var/tmp")
SHARED_KEY = 0x7A11  # of shared memory, messages and semaphores that programs leave
_REMOVE = 0  # IPC_RMID
_STOPPED = {"T", "t", "Z", "X"}
_VICTIM = "import sys, time\nsys.stdin.readline()"


class World:
    """One world: a folder with a secret, listening sockets, and a process, all of one user."""

    def __init__(self, folder: str, user: int, victim: int) -> None:
        self.mark = f"hostile-{os.getpid()}-{time.time_ns()}"
        self.folder = folder
        self._victim = victim
        self._stream = socket.create_server(("127.0.0.1", 0))
        self._datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._local = socket.socket(socket.AF_UNIX)
        self._abstract = socket.socket(socket.AF_UNIX)
        self._datagram.bind(("127.0.0.1", 0))
        self._local.bind(f"{folder}/socket")
        self._abstract.bind(f"\0{self.mark}")
        for listening in (self._local, self._abstract):
            listening.listen()
        Path(folder, "secret").write_text(SECRET)
        for name, mode in (("secret", 0o666), ("socket", 0o777), (".", 0o777)):
            if os.geteuid() == 0:
                os.chown(f"{folder}/{name}", user, user)
            os.chmod(f"{folder}/{name}", mode)
        self._before = self._state()

    def fill(self, program: str) -> str:
        """Replace the names of this world in a program."""
        names = {
            "FOLDER": self.folder,
            "TCP": self._stream.getsockname()[1],
            "UDP": self._datagram.getsockname()[1],
            "VICTIM": self._victim,
            "MARK": self.mark,
        }
        for name, value in names.items():
            program = program.replace(name, str(value))
        return program

    def changes(self) -> list[str]:
        """Return what differs from the beginning."""
        try:
            now = self._state()
        except OSError as error:
            return [str(error)]
        return [
            f"{name}: {value}, not {self._before[name]}" for name, value in now.items() if value != self._before[name]
        ]

    def close(self) -> None:
        """Close the sockets and remove what a program left."""
        for one in (self._stream, self._datagram, self._local, self._abstract):
            one.close()
        for place in PLACES:
            for left in Path(place).glob(f"{self.mark}*"):
                left.unlink()
        libc = ctypes.CDLL(None)
        libc.shmctl(libc.shmget(SHARED_KEY, 0, 0), _REMOVE, None)
        libc.msgctl(libc.msgget(SHARED_KEY, 0), _REMOVE, None)
        libc.semctl(libc.semget(SHARED_KEY, 0, 0), 0, _REMOVE)

    def _state(self) -> dict[str, object]:
        secret, folder = os.stat(f"{self.folder}/secret"), os.stat(self.folder)
        status = Path(f"/proc/{self._victim}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return {
            "files": sorted(os.listdir(self.folder)),
            "secret": Path(self.folder, "secret").read_text(),
            "attributes": [(one.st_mode, one.st_mtime_ns, one.st_nlink, one.st_uid) for one in (secret, folder)],
            "extended attributes": os.listxattr(f"{self.folder}/secret"),
            "left": [str(left) for place in PLACES for left in Path(place).glob(f"{self.mark}*")],
            "connections": [self._got(one) for one in (self._stream, self._datagram, self._local, self._abstract)],
            "stopped": status[0] in _STOPPED,
            "priority": status[16],
            "affinity": os.sched_getaffinity(self._victim),
            "limits": Path(f"/proc/{self._victim}/limits").read_text(encoding="ascii"),
            "shared memory": Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:],
            "messages": Path("/proc/sysvipc/msg").read_text(encoding="ascii").splitlines()[1:],
            "semaphores": Path("/proc/sysvipc/sem").read_text(encoding="ascii").splitlines()[1:],
            "host": socket.gethostname(),
            "mounts": Path("/proc/self/mounts").read_text(encoding="utf-8"),
        }

    @staticmethod
    def _got(listening: socket.socket) -> bool:
        """Return whether a connection or message arrived."""
        listening.setblocking(False)
        try:
            if listening.type == socket.SOCK_DGRAM:
                listening.recv(1)
            else:
                listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@contextmanager
def world(setup: Setup) -> Iterator[World]:
    """Make a world whose files and process belong to the user that runs programs."""
    owner = setup.user or None
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        victim = subprocess.Popen(
            [setup.interpreter, "-c", _VICTIM],
            stdin=subprocess.PIPE,
            cwd=folder,
            env={"SECRET": SECRET},
            user=owner,
            group=owner,
            extra_groups=None if owner is None else (),
        )
        made = World(folder, setup.user, victim.pid)
        try:
            yield made
        finally:
            made.close()
            victim.kill()
            victim.communicate()
