"""Process between the supervisor and a program: the program's parent, and first in its process namespace.

It starts the program, or its checker and the program, adopts their orphans, and reports the program's end. If the
supervisor ends, however that happens, it ends everything below it. The supervisor does the same if this process ends.
"""

import os
import select
import signal
from contextlib import suppress
from typing import NamedTuple, NoReturn

from branchwise.sandbox.jail import folder, kernel, processes, runner
from branchwise.sandbox.jail.messages import Ended, Request, encode

_CHUNK = 1 << 12


class Channels(NamedTuple):
    """File descriptors that connect this process with the supervisor."""

    output: int  # what the program prints is written here
    news: int  # `Ready` of each runner and `Ended` of the program are written here
    alive: int  # readable at its end when the supervisor is gone


def run(request: Request, isolated: bool, private: str, channels: Channels) -> NoReturn:
    """Run a request and exit when the supervisor ends. `private`: folder to make where files are not isolated."""
    try:
        os.setpgid(0, 0)
        kernel.adopt_orphans()
        kernel.hide_memory()
        runners = _start(request, isolated, private, channels)
        os.close(channels.output)
        _attend(runners, channels)
    finally:
        if isolated:
            processes.end_namespace()
        else:
            processes.end_descendants()
        folder.remove(private)
        os._exit(0)


def _start(request: Request, isolated: bool, private: str, channels: Channels) -> dict[int, str]:
    """Fork the program, after its checker if it has one; return the role of each process."""
    if request.names is None:
        roles = [runner.Role("alone", (request.report, request.proof))]
    else:
        called, calls = os.pipe()
        replies, replied = os.pipe()
        roles = [
            runner.Role("checker", (request.report, request.proof, replies, calls)),
            runner.Role("called", (called, replied)),
        ]
    runners: dict[int, str] = {}
    for role in roles:
        child = os.fork()
        if child == 0:
            runner.run(request, isolated, role, private, channels.output, channels.news)
        runners[child] = role.name
    for descriptor in {file for role in roles for file in role.files}:
        os.close(descriptor)
    return runners


def _attend(runners: dict[int, str], channels: Channels) -> None:
    """Report the ends of the runners and reap others until the supervisor is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a first process gets only signals that it handles
    awake = processes.awake()
    while True:
        while (child := _ended_child()) is not None:
            if child in runners:
                os.write(channels.news, encode(Ended(runners.pop(child), *processes.end_child(child))))
            else:
                os.waitpid(child, 0)
        readable = select.select([awake, channels.alive], [], [])[0]
        if channels.alive in readable:
            return
        with suppress(BlockingIOError):
            os.read(awake, _CHUNK)


def _ended_child() -> int | None:
    """Return a child that ended and is not reaped, or None."""
    with suppress(ChildProcessError):
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if ended is None else ended.si_pid
    return None
