"""Whether two mathematical answers are the same, decided by math-verify in a process that can be killed."""

import atexit
import json
import queue
import re
import subprocess
import sys
import threading

from branchwise.answers.numbers import read_number

_START_SECONDS = 60.0  # importing the mathematics takes about one; a loaded machine takes longer


_REMEMBERED = 10_000  # verdicts; one that was not reached in time is remembered too, or it would be waited for again
_WORD = re.compile(r"[A-Za-z]{2,}")


class Equivalence:
    """Compares answers. One worker process, started when first needed; safe to use from any thread."""

    def __init__(self, seconds: float = 5.0) -> None:
        """`seconds`: longest time for one pair; after it the pair counts as different."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._known: dict[tuple[str, str], bool] = {}
        atexit.register(self.close)

    def same(self, first: str, second: str) -> bool:
        """Whether two answers mean the same; False when it can't be told in time.

        Blocks: call it off the event loop.
        """
        if first == second:
            return True
        numbers = read_number(first), read_number(second)
        if None not in numbers:
            return numbers[0] == numbers[1]
        if _WORD.fullmatch(first) and _WORD.fullmatch(second):
            return first.casefold() == second.casefold()  # to mathematics, "listen" is a product like "silent"
        pair = (min(first, second), max(first, second))
        with self._lock:
            if pair not in self._known:
                self._known[pair] = self._ask(pair)
                while len(self._known) > _REMEMBERED:
                    del self._known[next(iter(self._known))]
            return self._known[pair]

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._stop()

    def _ask(self, pair: tuple[str, str]) -> bool:
        process = self._running()
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            answer: object = json.loads(self._lines.get(timeout=self._seconds))
        except (queue.Empty, OSError, ValueError):
            self._stop()
            return False
        return answer is True

    def _running(self) -> subprocess.Popen[str] | None:
        """The worker, started unless it runs; None when it can't be."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        process = subprocess.Popen(
            [sys.executable, "-m", "branchwise.answers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process, self._lines), daemon=True).start()
        self._process = process
        try:
            started = self._lines.get(timeout=_START_SECONDS)
        except queue.Empty:
            started = ""
        if started.strip() != "ready":
            self._stop()
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def _pump(process: subprocess.Popen[str], lines: "queue.SimpleQueue[str]") -> None:
    """Move the worker's lines to a queue, so that reading one can time out on every system; "" at the end."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:  # closed while reading
        pass
    lines.put("")


EQUIVALENCE = Equivalence()
"""The process-wide worker: starting one per question would cost a second each."""
