"""Client of a worker process (systems/worker.py)."""

import contextlib
import json
import os
import select
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter

from benchmarks.systems.worker import Failure, Job, Measurement, Ready

_ROOT = Path(__file__).parent.parent
_MODULES = {"branchwise": "branchwise_", "hf": "hugging_face", "vllm": "vllm_", "floor": "floor"}
_ANSWER: TypeAdapter[Measurement | Failure] = TypeAdapter(Measurement | Failure)
_START_SECONDS = 900.0  # vLLM compiles when it starts


class WorkerError(Exception):
    """A worker did not start, failed a job or timed out."""


class Client:
    """A worker process, idle between jobs."""

    def __init__(self, name: str, python: str, folder: Path, threads: int, log: Path) -> None:
        """Start the worker; its output goes to `log`. Raises WorkerError if the system cannot be loaded."""
        self.name = name
        self._log = log
        module = f"benchmarks.systems.{_MODULES[name]}"
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", module, str(folder), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=_ROOT,
                env=environment,
                start_new_session=True,  # only the benchmark handles an interrupt at the terminal
            )
        self.versions = TypeAdapter(Ready).validate_json(self._line(_START_SECONDS)).versions

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def measure(self, job: Job, seconds: float) -> Measurement:
        """Run `job` and return its measurement.

        Raises WorkerError if the job fails; a worker that takes longer than `seconds` is killed.
        """
        try:
            _pipe(self._process.stdin).write(json.dumps(asdict(job)).encode() + b"\n")
            _pipe(self._process.stdin).flush()
        except OSError as error:
            raise WorkerError(f"{self.name}: the worker has ended; see {self._log}") from error
        answer = _ANSWER.validate_json(self._line(seconds))
        if isinstance(answer, Failure):
            raise WorkerError(f"{self.name}: {answer.error}")
        return answer

    def close(self) -> None:
        """Close stdin, and kill the process if it has not exited after 30 s."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._kill()
        _pipe(self._process.stdout).close()

    def _kill(self) -> None:
        """Kill the process and its children, which share its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _line(self, seconds: float) -> bytes:
        """Return the next answer. A worker writes whole lines, so a readable pipe holds a complete one."""
        output = _pipe(self._process.stdout)
        readable, _, _ = select.select([output], [], [], seconds)
        line = output.readline() if readable else b""
        if not line:
            self._kill()
            problem = f"gave no answer in {seconds:.0f} s" if not readable else "ended"
            raise WorkerError(f"{self.name}: the worker {problem}; see {self._log}")
        return line


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
