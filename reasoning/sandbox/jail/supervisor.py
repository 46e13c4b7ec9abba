"""The process that watches a program from outside: it keeps time, and it ends everything."""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

from branchwise.sandbox.jail import kernel, namespaces, runner
from branchwise.sandbox.jail.messages import Ending, Ready, Request, encode

_INPUT, _OUTPUT = 0, 1
_SETUP_SECONDS = 60.0  # it takes a hundredth of one; a loaded machine takes longer
_CHUNK = 1 << 16


def main() -> None:
    """Run what the first line of the input asks for; where the input ends before the program, so does the program."""
    request = Request(**json.loads(_line()))
    kernel.adopt_orphans()
    apart = request.namespaces and _separate()
    output, written = os.pipe()
    ready, told = os.pipe()
    awake = _wake_up()
    child = os.fork()
    if child == 0:
        runner.run(request, apart, written, told)
    for descriptor in (written, told, request.report, request.proof):
        os.close(descriptor)
    watch = _Watch(child, output, awake, request)
    setup = watch.setup(ready)
    try:
        how = "refused" if setup.problem else watch.program()
    finally:
        status, cpu = _end(child)
        if setup.folder is not None:
            _remove(setup.folder)
    os.write(_OUTPUT, encode(Ending(how, status, cpu, setup.problem, setup.fix)))


def _line() -> bytes:
    """All of the input up to a newline."""
    content = b""
    while not content.endswith(b"\n"):
        chunk = os.read(_INPUT, _CHUNK)
        if not chunk:
            sys.exit("the request was cut short")
        content += chunk
    return content


def _separate() -> bool:
    """Whether what this process starts is in namespaces of its own."""
    try:
        namespaces.separate()
    except OSError:
        return False
    return True


def _wake_up() -> int:
    """A file descriptor that can be read once a child ended."""
    awake, signalled = os.pipe()
    for descriptor in (awake, signalled):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    return awake


class _Watch:
    """A program, seen from outside."""

    def __init__(self, child: int, output: int, awake: int, request: Request) -> None:
        self._child, self._output, self._awake, self._request = child, output, awake, request

    def setup(self, ready: int) -> Ready:
        """What the runner says once it has locked itself in."""
        content, deadline = b"", time.monotonic() + _SETUP_SECONDS
        while not content.endswith(b"\n"):
            chunk = os.read(ready, _CHUNK) if self._wait([ready], deadline) == [ready] else b""
            if not chunk:
                return Ready("the process for the program ended, or was too slow, before it began", "try again")
            content += chunk
        return Ready(**json.loads(content))

    def program(self) -> str:
        """How it ended."""
        deadline, written, watched = time.monotonic() + self._request.seconds, 0, [self._output, self._awake]
        while True:
            readable = self._wait(watched, deadline)
            if not readable:
                return "time"
            if _INPUT in readable:
                return "lost"
            if self._output in readable:
                chunk = os.read(self._output, _CHUNK)
                written += len(chunk)
                if written > self._request.output:
                    return "output"
                if not chunk:  # the program closed it
                    watched.remove(self._output)
            if self._awake in readable:
                with suppress(BlockingIOError):
                    os.read(self._awake, _CHUNK)
                if os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return "exit"

    def _wait(self, descriptors: list[int], deadline: float) -> list[int]:
        """Which can be read, the input's end among them; none when the time is over."""
        left = deadline - time.monotonic()
        return select.select([_INPUT, *descriptors], [], [], left)[0] if left > 0 else []


def _end(child: int) -> tuple[int, float]:
    """Kill the program and all it started; its status, and the seconds of CPU it took.

    The child is reaped last, so that its number, which is its group's, means nobody else.
    """
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return status, used.ru_utime + used.ru_stime


def _remove(folder: str) -> None:
    """A folder, whatever a program did to it: deeper than Python can recurse, or closed to its owner."""
    for command in (["/bin/chmod", "-R", "u+rwx", folder], ["/bin/rm", "-rf", folder]):
        os.waitpid(os.posix_spawn(command[0], command, {}), 0)
