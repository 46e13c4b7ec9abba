"""`branchwise serve` in a process of its own."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.commands import INTERRUPTIBLE


class Server:
    """A running server and its output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.greeting: list[str] = []
        self.log: list[str] = []
        assert process.stdout is not None
        while not self.greeting or "-d '" not in self.greeting[-1]:
            line = process.stdout.readline()
            assert line, f"the server ended: {process.wait()}\n{''.join(self.log)}"
            self.greeting.append(line)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def url(self) -> str:
        found = re.fullmatch(r"serving .+ at (http://\S+)/v1\n", self.greeting[0])
        assert found is not None, self.greeting
        return found.group(1)

    @property
    def curl(self) -> str:
        """The example request that the server prints."""
        return "".join(self.greeting[1:])

    def stop(self, *signals: signal.Signals) -> int:
        """Send the signals, wait for the end and return the exit status."""
        for number in signals:
            self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)


@contextmanager
def served(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start the server on a free port, and kill it at the end if it is still running."""
    environment = {name: value for name, value in os.environ.items() if name != "BRANCHWISE_API_KEY"}
    process = subprocess.Popen(
        [*INTERRUPTIBLE, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, **(env or {})},
    )
    with process:
        try:
            yield Server(process)
        finally:
            if process.poll() is None:
                process.kill()
