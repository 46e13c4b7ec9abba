"""Description of the machine, and its processor use by other processes."""

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from branchwise.backends.engine.model.loading import default_dtype

_PROC = Path("/proc")
_IDLE = (3, 4)  # columns of /proc/stat: idle and iowait


def fast_dtype(folder: Path) -> str:
    """Return the dtype in which the engine runs the model in `folder` on this processor, such as float32."""
    return str(default_dtype(folder, torch.device("cpu"))).removeprefix("torch.")


class Machine(NamedTuple):
    """A machine, and its load when the run began."""

    cpu: str
    cores: int
    threads: int
    memory_gib: float
    system: str
    load_average: tuple[float, float, float]


class Use(NamedTuple):
    """Processor use during a measurement, as shares of the machine; None where the system does not report it."""

    others: float | None  # other processes and time stolen by the host
    idlers: float | None  # the benchmark's own workers that were not measured


def describe(threads: int) -> Machine:
    """Return the description of this machine."""
    try:
        lines = (_PROC / "cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = os.getloadavg()
    return Machine(cpu, cores(), threads, round(memory, 1), platform.platform(), load)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Meter:
    """Processor time since construction: of the measured worker, of idle workers, of other processes."""

    def __init__(self, worker: int | None, workers: Iterable[int]) -> None:
        """Take the process ids of the measured worker, if any, and of all workers."""
        self._worker = worker
        self._workers = [*workers]
        self._start = self._read()

    def _read(self) -> tuple[float, float, float, float] | None:
        """Return the clock, and processor seconds of all processes, of the worker and of the idle workers."""
        try:
            columns = [int(field) for field in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
            processes = _processes()
        except (OSError, ValueError):
            return None
        tick = os.sysconf("SC_CLK_TCK")
        busy = sum(columns) - sum(columns[i] for i in _IDLE)
        worker = 0 if self._worker is None else _spent(self._worker, processes)
        idlers = sum(_spent(pid, processes) for pid in self._workers if pid != self._worker)
        return time.monotonic(), busy / tick, worker / tick, idlers / tick

    def use(self) -> Use:
        """Return the use since construction."""
        now = self._read()
        if now is None or self._start is None:
            return Use(None, None)
        clock, busy, worker, idlers = (after - before for after, before in zip(now, self._start, strict=True))
        whole = max(clock, 1e-3) * (os.cpu_count() or 1)
        return Use(max(0.0, busy - worker - idlers) / whole, idlers / whole)


def wait_until_quiet(limit: float, most: float) -> None:
    """Wait until all processes together use less than the share `most` of the machine, at most `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        meter = Meter(None, ())
        time.sleep(min(1.0, limit))
        others = meter.use().others
        if others is None or others < most:
            return


class _Process(NamedTuple):
    parent: int
    ticks: int


def _processes() -> dict[int, _Process]:
    """Return parent and processor ticks of every process."""
    found = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            found[int(folder.name)] = _Process(int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def _spent(pid: int, processes: dict[int, _Process]) -> int:
    """Return the processor ticks of a process and its descendants."""
    own = processes[pid].ticks if pid in processes else 0
    return own + sum(_spent(child, processes) for child, process in processes.items() if process.parent == pid)
