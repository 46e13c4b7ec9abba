"""The process that compares expressions, seen from outside: it can be asked, and it can be killed."""

import json
import queue
import subprocess
import sys
import threading

_START_SECONDS = 60.0  # importing the mathematics takes about one; a loaded machine takes longer


class WorkerProcess:
    """Started when first asked, and again after it was lost. Not safe to use from two threads at once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    @property
    def pid(self) -> int | None:
        """The system's number of the process, None while there is none."""
        return None if self._process is None else self._process.pid

    def ask(self, pair: tuple[str, str], seconds: float) -> bool | None:
        """Whether two expressions are the same; None without a verdict: out of time, or the process died."""
        process = self._running()
        if process is None or process.stdin is None:
            return None
        try:
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            answer: object = json.loads(self._lines.get(timeout=seconds))
        except (queue.Empty, OSError, ValueError):
            self.stop()
            return None
        return answer if isinstance(answer, bool) else None

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def _running(self) -> subprocess.Popen[str] | None:
        """The process, started unless it runs; None when it can't be."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        process = subprocess.Popen(
            [sys.executable, "-m", "branchwise.answers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._process = process
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process, self._lines), daemon=True).start()
        try:
            started = self._lines.get(timeout=_START_SECONDS)
        except queue.Empty:
            started = ""
        if started.strip() != "ready":
            self.stop()
        return self._process


def _pump(process: subprocess.Popen[str], lines: "queue.SimpleQueue[str]") -> None:
    """Move the worker's lines to a queue, so that reading one can time out on every system; "" at the end."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:  # closed while reading
        pass
    lines.put("")
