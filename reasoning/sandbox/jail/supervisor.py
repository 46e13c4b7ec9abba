"""Process that supervises a program: enforces limits from outside and ends everything it started."""

import json
import os
import select
import sys
import time

from branchwise.sandbox.jail import folder, init, kernel, namespaces, processes
from branchwise.sandbox.jail.messages import Ended, Ending, Ready, Request, encode
from branchwise.sandbox.jail.usage import Usage

_INPUT, _OUTPUT = 0, 1
_SETUP_SECONDS = 60.0  # usually 10 ms; a loaded machine takes longer
_REPORT_SECONDS = 2.0  # from the end of a program to that of its checker
_END_SECONDS = 5.0  # usually 1 ms
_COUNT_SECONDS = 0.05  # between two counts of what the program uses
_CHUNK = 1 << 16


def main() -> None:
    """Run the request on the first input line. If the input closes earlier, the program ends too."""
    request = Request(**json.loads(_line()))
    kernel.adopt_orphans()
    isolated = request.namespaces and _separate()
    private = folder.name()
    watch = _start(request, isolated, private)
    try:
        state = watch.setup()
        how = "refused" if state.problem else watch.program()
    finally:
        watch.end()
        folder.remove(private)
    ended = watch.news.program
    os.write(_OUTPUT, encode(Ending(how, ended.status, ended.cpu, state.problem, state.fix, state.layers)))


def _start(request: Request, isolated: bool, private: str) -> "_Watch":
    """Fork the process that starts the program."""
    output, written = os.pipe()
    news, reports = os.pipe()
    alive, held = os.pipe()  # this process holds `held` until it ends
    child = os.fork()
    if child == 0:
        for descriptor in (_INPUT, _OUTPUT, output, news, held):
            os.close(descriptor)
        init.run(request, isolated, private, init.Channels(written, reports, alive))
    for descriptor in (written, reports, alive, request.report, request.proof):
        os.close(descriptor)
    return _Watch(request, private, child, output, _News(news), held)


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


class _News:
    """Messages of the runners and of the process that started them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ready: dict[str, Ready] = {}  # by role
        self.ended: dict[str, Ended] = {}  # by role
        self.gone = False  # nobody can write any more
        self._rest = b""  # of a line that is incomplete

    def read(self) -> None:
        """Read what was written; wait if there is nothing."""
        chunk = os.read(self.descriptor, _CHUNK)
        self.gone = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for message in map(json.loads, lines):
            if "status" in message:
                self.ended[message["role"]] = Ended(**message)
            else:
                self.ready[message["role"]] = Ready(**message)

    @property
    def program(self) -> Ended:
        """Return the end of the program's process, which is killed if it is not known."""
        return self.ended.get("called") or self.ended.get("alone") or Ended("", 9, 0.0)


class _Watch:
    """Watches a program's output, time, use of the machine, and end."""

    def __init__(self, request: Request, private: str, init: int, output: int, news: _News, held: int) -> None:
        self.news = news
        self._request = request
        self._private = private
        self._init = init
        self._output = output
        self._held = held  # while it is open, the process above the program goes on

    def setup(self) -> Ready:
        """Wait for the runners' reports that they are confined; return the first that is not, or any."""
        ready, deadline = self.news.ready, time.monotonic() + _SETUP_SECONDS
        while len(ready) < (1 if self._request.names is None else 2):
            if self._wait([self.news.descriptor], deadline) == [self.news.descriptor]:
                self.news.read()
                if not self.news.gone and self.news.ended.keys() <= ready.keys():
                    continue
            return Ready("the program's process ended or timed out before the program began", "try again")
        states = list(ready.values())
        return next((state for state in states if state.problem is not None), states[0])

    def program(self) -> str:
        """Wait for the program; return how it ended."""
        checker = self.news.ready.get("checker")
        usage = Usage(self._request, self._private, self._init, 0 if checker is None else checker.process)
        deadline, written = time.monotonic() + self._request.seconds, 0
        watched, counted = [self._output, self.news.descriptor], time.monotonic()
        while not self._has_ended():
            now = time.monotonic()
            if now >= deadline:
                return "exit" if self.news.ended else "time"
            if now >= counted + _COUNT_SECONDS:
                excess, counted = usage.excess(), now
                if excess is not None:
                    return excess
            readable = self._wait(watched, min(deadline, counted + _COUNT_SECONDS))
            if _INPUT in readable:
                return "lost"
            if self._output in readable:
                chunk = os.read(self._output, _CHUNK)
                written += len(chunk)
                if written > self._request.output:
                    return "output"
                if not chunk:  # the program closed it
                    watched.remove(self._output)
            if self.news.descriptor in readable:
                self.news.read()
                if self.news.ended:  # its checker still reports why
                    deadline = min(deadline, time.monotonic() + _REPORT_SECONDS)
        return "exit"

    def end(self) -> None:
        """End everything: the process above the program does, so that it goes on if this one is killed meanwhile."""
        os.close(self._held)
        deadline = time.monotonic() + _END_SECONDS
        while not self.news.gone and (left := deadline - time.monotonic()) > 0:
            if select.select([self.news.descriptor], [], [], left)[0]:
                self.news.read()
        processes.end_descendants()

    def _has_ended(self) -> bool:
        """Return whether the tests, or the program without tests, have ended."""
        return self.news.gone or not self.news.ended.keys().isdisjoint(("checker", "alone"))

    def _wait(self, descriptors: list[int], deadline: float) -> list[int]:
        """Return the readable descriptors, the input included; empty when time is up."""
        left = deadline - time.monotonic()
        return select.select([_INPUT, *descriptors], [], [], left)[0] if left > 0 else []
