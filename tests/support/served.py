"""`branchwise serve`, as a process of its own."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.commands import HEEDING


class Process:
    """A server that was started, and what it wrote."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.greeting: list[str] = []
        self.log: list[str] = []
        assert process.stdout is not None
        while not self.greeting or "-d '" not in self.greeting[-1]:
            line = process.stdout.readline()
            assert line, f"it ended: {process.wait()}\n{''.join(self.log)}"
            self.greeting.append(line)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    @property
    def url(self) -> str:
        found = re.fullmatch(r"serving .+ at (http://\S+)/v1\n", self.greeting[0])
        assert found is not None, self.greeting
        return found.group(1)

    @property
    def curl(self) -> str:
        """The example it prints."""
        return "".join(self.greeting[1:])

    def stop(self, *signals: signal.Signals) -> int:
        """Send them; its exit status."""
        for each in signals:
            self.process.send_signal(each)
        status = self.process.wait(timeout=30)
        self._reading.join()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)


@contextmanager
def served(*arguments: str, chosen: Mapping[str, str] | None = None) -> Iterator[Process]:
    """The command with any free port."""
    environment = {name: value for name, value in os.environ.items() if name != "BRANCHWISE_API_KEY"}
    process = subprocess.Popen(
        [*HEEDING, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, **(chosen or {})},
    )
    with process:
        try:
            yield Process(process)
        finally:
            if process.poll() is None:
                process.kill()
