"""Pool of worker processes: an expression that takes long holds one of them, and the others go on."""

import math
import threading
import time

from branchwise.answers.process import Kind, Reply, WorkerProcess

_MAX_WAIT = 1.0  # seconds; a condition cannot wait for an infinite time


class WorkerPool:
    """Up to `size` worker processes, started on demand, one of them ahead of the demand. Thread-safe."""

    def __init__(self, size: int = 4) -> None:
        self._size = size
        self._idle: list[WorkerProcess] = []
        self._workers: list[WorkerProcess] = []
        self._changed = threading.Condition()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        with self._changed:
            return [pid for worker in self._workers if (pid := worker.pid) is not None]

    def evaluate(self, latex: str, kind: Kind, seconds: float, until: float = math.inf) -> Reply | None:
        """Return a worker's reply, with the limits of `WorkerProcess.evaluate`; None without one. The call blocks."""
        worker = self._take(until)
        if worker is None:
            return None
        try:
            return worker.evaluate(latex, kind, seconds, until)
        finally:
            self._give_back(worker)

    def close(self) -> None:
        """Kill the workers. The next request starts new ones."""
        with self._changed:
            workers, self._workers, self._idle = self._workers, [], []
        for worker in workers:
            worker.stop()

    def _take(self, until: float) -> WorkerProcess | None:
        """Return an idle worker, or a new one if there is room; None if none becomes idle in time."""
        with self._changed:
            while not self._idle and len(self._workers) >= self._size:
                if until <= time.monotonic():
                    return None
                self._changed.wait(min(_MAX_WAIT, until - time.monotonic()))
            if not self._idle:
                self._idle.append(WorkerProcess())
                self._workers.append(self._idle[-1])
            worker = self._idle.pop()
            if not self._idle and len(self._workers) < self._size:
                spare = WorkerProcess()
                self._workers.append(spare)
                threading.Thread(target=self._prepare, args=(spare,), daemon=True).start()
            return worker

    def _prepare(self, worker: WorkerProcess) -> None:
        worker.start()
        self._give_back(worker)

    def _give_back(self, worker: WorkerProcess) -> None:
        with self._changed:
            if worker in self._workers:
                self._idle.append(worker)
                self._changed.notify()
                return
        worker.stop()  # the pool was closed meanwhile
