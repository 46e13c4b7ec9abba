"""Protocol of the worker processes: jobs, measurements, and the timeline of tokens.

Workers run in separate environments, so this module imports the standard library only.
"""

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field

SHARE = "share_"
"""Prefix of the names of a profiled step's parts in `Measurement.extra`."""


@dataclass(frozen=True)
class Job:
    """Generation of `branches` branches of exactly `new_tokens` tokens from one prompt."""

    prompt: list[int]
    branches: int
    new_tokens: int
    seed: int
    temperature: float = 0.7
    profile: bool = False


@dataclass(frozen=True)
class Measurement:
    """Tokens and seconds of one job."""

    tokens: int  # generated, all branches together
    seconds: float  # from the request to the last token
    first_tokens: int = 0  # generated until every branch had its first token
    first_seconds: float = 0.0  # until every branch had its first token: mostly the prefill
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """First line of a worker, after it has loaded its system."""

    versions: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """Answer to a job that failed."""

    error: str


class Timeline:
    """Record of token arrivals. Its clock starts at construction."""

    def __init__(self, branches: int) -> None:
        self._start = time.perf_counter()
        self._waiting = set(range(branches))
        self._tokens = self._first_tokens = 0
        self._first = self._last = self._start

    def record(self, branch: int, tokens: int) -> None:
        """Record that `branch` generated `tokens` tokens."""
        if not tokens:
            return
        self._last = time.perf_counter()
        self._tokens += tokens
        if branch in self._waiting:
            self._waiting.remove(branch)
            if not self._waiting:
                self._first, self._first_tokens = self._last, self._tokens

    def measurement(self, extra: dict[str, float] | None = None) -> Measurement:
        """Return the measurement so far. Raises RuntimeError if a branch has no token."""
        if self._waiting:
            raise RuntimeError(f"{len(self._waiting)} branches have no token")
        return Measurement(
            tokens=self._tokens,
            seconds=self._last - self._start,
            first_tokens=self._first_tokens,
            first_seconds=self._first - self._start,
            extra=extra or {},
        )


class Worker(ABC):
    """A loaded system, constructed from a model folder and a number of threads."""

    versions: dict[str, str]

    @abstractmethod
    def measure(self, job: Job) -> Measurement:
        """Run `job` and return its measurement."""

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Release what would outlive the process."""


def serve(make: type[Worker]) -> None:
    """Load the system from the arguments (folder, threads), write `Ready`, then answer jobs until stdin ends.

    stdout carries one JSON line per answer; output of libraries is redirected to stderr.
    """
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        folder, threads = sys.argv[1:3]
        worker = make(folder, int(threads))  # type: ignore[call-arg]
        try:
            print(json.dumps(asdict(Ready(worker.versions))), file=answers)
            for line in sys.stdin:
                reply: Measurement | Failure
                try:
                    reply = worker.measure(Job(**json.loads(line)))
                except Exception as error:  # the run continues with the other systems
                    print(f"{error!r}", file=sys.stderr)
                    reply = Failure(f"{type(error).__name__}: {error}")
                print(json.dumps(asdict(reply)), file=answers)
        finally:
            worker.close()
