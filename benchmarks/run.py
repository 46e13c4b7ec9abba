"""Run of a comparison: every system in turn in each repetition, one at work at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.client import Client, WorkerError
from benchmarks.machine import Meter, Use, wait_until_quiet
from benchmarks.prompts import Prompts
from benchmarks.systems.worker import SHARE, Job, Measurement

_WARM_TOKENS = 8
_MIN_TIMEOUT = 60.0
_WARM_UPS = 2


@dataclass(frozen=True)
class Options:
    """Options of a run."""

    new_tokens: int = 128
    repeat: int = 3
    max_seconds: float = 300.0
    """A system that would take longer for one job is left out of its cell."""
    max_others: float = 0.05
    """Share of the machine that other processes may use; above it, the measurement is repeated."""
    retries: int = 1
    quiet_seconds: float = 10.0
    """Longest wait for a quiet machine before a measurement."""

    @property
    def timeout(self) -> float:
        """Seconds after which a worker is killed."""
        return _MIN_TIMEOUT + 10 * self.max_seconds


@dataclass(frozen=True)
class Cell:
    """A combination of branches and prompt length."""

    branches: int
    prompt_tokens: int

    def __str__(self) -> str:
        return f"{self.branches} x {self.prompt_tokens}"


@dataclass(frozen=True)
class Sample:
    """One system's measurement in one repetition."""

    system: str
    cell: Cell
    repetition: int
    measurement: Measurement
    use: Use


@dataclass
class Record:
    """Results of a run."""

    samples: list[Sample] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    profiles: dict[Cell, dict[str, float]] = field(default_factory=dict)


class Run:
    """Measures cells on loaded systems and records the results."""

    def __init__(
        self, clients: Sequence[Client], prompts: Prompts, options: Options, log: Callable[[str], None]
    ) -> None:
        self._clients = [*clients]
        self._prompts = prompts
        self._options = options
        self._log = log
        self._cells = 0
        self.record = Record()

    def measure(self, cell: Cell) -> None:
        """Measure all repetitions of one cell."""
        self._cells += 1
        live = [client for client in [*self._clients] if self._warm(client, cell)]
        for repetition in range(self._options.repeat):
            for client in [*live]:
                try:
                    sample = self._sample(client, cell, repetition)
                except WorkerError as error:
                    live.remove(client)
                    self._drop(client, cell, error)
                else:
                    self.record.samples.append(sample)
                    self._report(sample)

    def profile(self, cell: Cell) -> None:
        """Record the parts of this engine's decode step in one cell."""
        for client in [client for client in self._clients if client.name == "branchwise"]:
            try:
                done = client.measure(replace(self._job(cell, 0), profile=True), self._options.timeout)
            except WorkerError as error:
                self._drop(client, cell, error)
            else:
                shares = {name: value for name, value in done.extra.items() if name.startswith(SHARE)}
                self.record.profiles[cell] = {name.removeprefix(SHARE): value for name, value in shares.items()}

    def _job(self, cell: Cell, repetition: int, attempt: int = 0) -> Job:
        """Return the job of one repetition, the same for every system. No two jobs share a cached prefix."""
        number = (self._cells * 100 + repetition) * 10 + attempt
        prompt = self._prompts.make(number, cell.prompt_tokens)
        return Job(prompt, cell.branches, self._options.new_tokens, seed=number)

    def _warm(self, client: Client, cell: Cell) -> bool:
        """Run short jobs of the cell and return True if a whole job fits into `max_seconds`."""
        expected = 0.0
        for attempt in range(_WARM_UPS):  # the first attempt includes compilation
            job = replace(self._job(cell, 99, attempt), new_tokens=min(_WARM_TOKENS, self._options.new_tokens))
            try:
                done = client.measure(job, self._options.timeout)
            except WorkerError as error:
                self._drop(client, cell, error)
                return False
            step = (done.seconds - done.first_seconds) / job.new_tokens
            expected = done.first_seconds + step * self._options.new_tokens
            if expected <= self._options.max_seconds:
                return True
        self._skip(f"{client.name} at {cell}: would take about {expected:.0f} s")
        return False

    def _sample(self, client: Client, cell: Cell, repetition: int) -> Sample:
        """Measure until other processes use little enough, and return the least disturbed sample."""
        samples: list[Sample] = []
        for attempt in range(self._options.retries + 1):
            job = self._job(cell, repetition, attempt)
            wait_until_quiet(self._options.quiet_seconds, self._options.max_others)
            meter = Meter(client.pid, [other.pid for other in self._clients])
            done = client.measure(job, self._options.timeout)
            samples.append(Sample(client.name, cell, repetition, done, meter.use()))
            if _disturbance(samples[-1]) <= self._options.max_others:
                break
        return min(samples, key=_disturbance)

    def _report(self, sample: Sample) -> None:
        done, others = sample.measurement, sample.use.others
        noise = "" if others is None else f", other processes used {others:.0%} of the machine"
        self._log(
            f"{sample.cell}, {sample.repetition + 1}: {sample.system} {done.tokens / done.seconds:.1f} tok/s{noise}"
        )

    def _drop(self, client: Client, cell: Cell, error: WorkerError) -> None:
        """Leave a system out of a cell, and out of the rest of the run if its process has ended."""
        self._skip(f"{client.name} at {cell}: {error}")
        if not client.alive:
            self._clients.remove(client)

    def _skip(self, reason: str) -> None:
        self.record.skipped.append(reason)
        self._log(f"left out: {reason}")


def _disturbance(sample: Sample) -> float:
    return sample.use.others or 0.0
