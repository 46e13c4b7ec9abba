"""Process that supervises a program: enforces limits and ends everything it started."""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NamedTuple

from branchwise.sandbox.jail import kernel, namespaces, runner
from branchwise.sandbox.jail.messages import Ending, Ready, Request, encode

_INPUT, _OUTPUT = 0, 1
_SETUP_SECONDS = 60.0  # usually 10 ms; a loaded machine takes longer
_REPORT_SECONDS = 2.0  # from the end of a program to that of its checker
_CHUNK = 1 << 16


def main() -> None:
    """Run the request on the first input line. If the input closes earlier, the program ends too."""
    request = Request(**json.loads(_line()))
    kernel.adopt_orphans()
    isolated = request.namespaces and _separate()
    output, written = os.pipe()
    ready, ready_write = os.pipe()
    awake = _wake_up()
    children = _start(request, isolated, written, ready_write)
    for descriptor in (written, ready_write):
        os.close(descriptor)
    watch = _Watch(children, output, awake, request)
    setup = watch.setup(ready)
    try:
        how = "refused" if setup.state.problem else watch.program()
    finally:
        status, cpu = watch.end()
        for folder in setup.folders:
            _remove(folder)
    os.write(_OUTPUT, encode(Ending(how, status, cpu, setup.state.problem, setup.state.fix, setup.state.layers)))


def _start(request: Request, isolated: bool, output: int, ready: int) -> list[int]:
    """Fork the program, or its checker and the program: the checker is first, so that it cannot be signalled there."""
    if request.names is None:
        roles = [runner.Role("alone", (request.report, request.proof))]
    else:
        called, calls = os.pipe()
        replies, replied = os.pipe()
        roles = [
            runner.Role("checker", (request.report, request.proof, replies, calls)),
            runner.Role("called", (called, replied)),
        ]
    children = []
    for role in roles:
        child = os.fork()
        if child == 0:
            runner.run(request, isolated, role, output, ready)
        children.append(child)
    for descriptor in {file for role in roles for file in role.files}:
        os.close(descriptor)
    return children


def _line() -> bytes:
    """Read one line of input."""
    content = b""
    while not content.endswith(b"\n"):
        chunk = os.read(_INPUT, _CHUNK)
        if not chunk:
            sys.exit("the request is incomplete")
        content += chunk
    return content


def _separate() -> bool:
    """Enter new namespaces; return whether the system permits it."""
    try:
        namespaces.separate()
    except OSError:
        return False
    return True


def _wake_up() -> int:
    """Return a file descriptor that becomes readable when a child ends."""
    awake, signalled = os.pipe()
    for descriptor in (awake, signalled):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    return awake


class _Setup(NamedTuple):
    """Report of the first runner that is not confined, or of any; the folders to remove."""

    state: Ready
    folders: list[str]


class _Watch:
    """Watches a program's output, time and end."""

    def __init__(self, children: list[int], output: int, awake: int, request: Request) -> None:
        self._children = children
        self._ended: tuple[int, float] | None = None  # the called program's end
        self._output = output
        self._awake = awake
        self._request = request

    def setup(self, ready: int) -> _Setup:
        """Wait for the runners' reports that they are confined."""
        content, deadline = b"", time.monotonic() + _SETUP_SECONDS
        while content.count(b"\n") < len(self._children):
            chunk = os.read(ready, _CHUNK) if self._wait([ready], deadline) == [ready] else b""
            if not chunk:
                break
            content += chunk
        states = [Ready(**json.loads(line)) for line in content.splitlines()]
        if len(states) < len(self._children):
            states.append(Ready("the program's process ended or timed out before the program began", "try again"))
        failed = next((state for state in states if state.problem is not None), states[0])
        return _Setup(failed, [state.folder for state in states if state.folder is not None])

    def program(self) -> str:
        """Wait for the program; return how it ended."""
        deadline, written, watched = time.monotonic() + self._request.seconds, 0, [self._output, self._awake]
        while True:
            readable = self._wait(watched, deadline)
            if not readable:
                return "time" if self._ended is None else "exit"
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
                if _has_ended(self._children[0]):
                    return "exit"
                if self._ended is None and _has_ended(self._children[-1]):  # its checker still reports why
                    self._ended = _kill(self._children[-1])  # reaped: in namespaces, the checker's end waits for it
                    deadline = min(deadline, time.monotonic() + _REPORT_SECONDS)

    def end(self) -> tuple[int, float]:
        """Kill the program, its checker and everything they started; return the program's status and CPU seconds."""
        ended = self._ended or _kill(self._children[-1])
        if len(self._children) > 1:
            _kill(self._children[0])
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        return ended

    def _wait(self, descriptors: list[int], deadline: float) -> list[int]:
        """Return the readable descriptors, the input included; empty when time is up."""
        left = deadline - time.monotonic()
        return select.select([_INPUT, *descriptors], [], [], left)[0] if left > 0 else []


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(child: int) -> tuple[int, float]:
    """Kill a child and its group; return its status and CPU seconds.

    The child is reaped after its group is killed, so that its id cannot be reused by another process meanwhile.
    """
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used.ru_utime + used.ru_stime


def _remove(folder: str) -> None:
    """Remove a folder, even one nested deeper than Python can recurse or without permissions."""
    for command in (["/bin/chmod", "-R", "u+rwx", folder], ["/bin/rm", "-rf", folder]):
        os.waitpid(os.posix_spawn(command[0], command, {}), 0)
