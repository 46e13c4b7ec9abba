"""Handle of a process that evaluates expressions (worker.py): start it, query it, kill it.

A plain subprocess rather than a process pool: spawn and forkserver import the user's `__main__` again in the child,
which runs an unguarded script twice and fails for a program from standard input. Fork is unsafe beside threads.
"""

import json
import math
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["value", "equation", "inequality"]
"""A value; the left side of "f = 0", equal up to a factor; the left side of "f < 0", equal up to a positive factor."""

_WORKER = Path(__file__).with_name("worker.py")
_START_SECONDS = 60.0  # the worker imports its mathematics in about 1 s, more slowly on a loaded machine


class Reply(NamedTuple):
    """A worker's reply."""

    fingerprint: str | None
    """Equal for equal expressions; "" without a value; None if it takes too long."""


class WorkerProcess:
    """A worker process, started on first use and restarted after it dies. Not thread-safe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._started = 0.0
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """Process id, or None if no process runs."""
        return None if self._process is None else self._process.pid

    def start(self, until: float = math.inf) -> bool:
        """Start the process unless it runs. Return False if it is not ready by `until`; it may be later."""
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._process = self._popen()
            self._started = time.monotonic()
            self._is_ready = False
            self._lines = queue.SimpleQueue()
            threading.Thread(target=_read_lines, args=(self._process, self._lines), daemon=True).start()
        if not self._is_ready:
            try:
                last = min(until, self._started + _START_SECONDS)
                self._is_ready = self._lines.get(timeout=max(0.0, last - time.monotonic())).strip() == "ready"
            except queue.Empty:
                if last == until:
                    return False
            if not self._is_ready:
                self.stop()
        return self._is_ready

    def evaluate(self, latex: str, kind: Kind, seconds: float, until: float = math.inf) -> Reply | None:
        """Return the fingerprint of an expression; None without a reply, after a timeout or the worker's death.

        `seconds` limits the evaluation; `until`, a time of the monotonic clock, also limits the start.
        """
        if not self.start(until) or (process := self._process) is None or process.stdin is None:
            return None
        try:
            process.stdin.write(json.dumps((latex, kind)) + "\n")
            process.stdin.flush()
            (fingerprint,) = json.loads(self._lines.get(timeout=max(0.0, min(seconds, until - time.monotonic()))))
        except (queue.Empty, OSError, ValueError):
            self.stop()
            return None
        return Reply(fingerprint)

    def stop(self) -> None:
        """Kill the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _popen(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],  # -P: the modules beside it have names of the standard library
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )


def _read_lines(process: subprocess.Popen[str], lines: "queue.SimpleQueue[str]") -> None:
    """Put the worker's lines into a queue, then "" at the end. Reading a queue can time out on every platform."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:  # closed while reading
        pass
    lines.put("")
