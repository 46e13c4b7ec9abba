"""Servers to ask: each a process group of its own, on a port of its own, gone as a whole in the end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.machine import fast_dtype
from branchwise.backends.models.resolve import resolve

_START_SECONDS = 900.0  # vLLM compiles when it starts
_END_SECONDS = 30.0
_EAGER = os.environ.get("BENCH_VLLM_EAGER") == "1"
_KV_GIB = float(os.environ.get("BENCH_VLLM_KV_GIB", "2"))
PLUGIN = {"VLLM_PLUGINS": "branchwise"}
BENCHED = {**PLUGIN, "VLLM_SERVER_DEV_MODE": "1"}  # to empty the prefix cache
_VLLM = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


class ServerError(Exception):
    """A server did not start, or ended by itself."""


class Server:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, model: str, log: Path) -> None:
        self.address, self.model, self.log = address, model, log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def resident(self) -> int:
        """Bytes in memory, of all its processes (Linux)."""
        return sum(map(_resident, _family(self.pid)))

    def wait_until_ready(self, seconds: float = _START_SECONDS) -> None:
        """Raises ServerError."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if httpx.get(f"{self.address}/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        said = self.log.read_text(errors="replace")[-2000:]
        raise ServerError(f"the server did not start; the end of {self.log}:\n{said}")

    def close(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                return


@contextmanager
def branchwise_server(
    model: str, options: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`branchwise serve` with further options. Raises ServerError."""
    port = _free_port()
    command = [sys.executable, "-m", "branchwise.cli.main", "serve", "--model", model, "--port", str(port), *options]
    with _running(command, environment or {}, port, model, log, Path.cwd()) as server:
        yield server


@contextmanager
def vllm_server(
    python: Path, model: str, options: Sequence[str], log: Path, environment: Mapping[str, str] = BENCHED
) -> Iterator[Server]:
    """`vllm serve` in vLLM's own environment, with the plugin unless `environment` says otherwise. Raises ServerError.

    Its numbers are of the type in which the embedded engine runs the model on this machine's processor. It is started
    by the module that the command runs: the command itself looks for a package called `vllm`, and the CPU build is
    called `vllm-cpu`.
    """
    port, folder = _free_port(), resolve(model, lambda *_: None)
    command = [
        str(python.absolute()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder.absolute()),
        "--served-model-name", model, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "4096",
        "--max-num-seqs", "64", "--block-size", "32", "--kv-cache-memory-bytes", str(int(_KV_GIB * 2**30)),
        "--dtype", fast_dtype(folder), "--generation-config", "vllm", "--enable-prompt-tokens-details",
        *(["--enforce-eager"] if _EAGER else []), *options,
    ]  # fmt: skip
    with _running(command, {**_VLLM, **environment}, port, model, log, log.parent) as server:
        yield server


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], port: int, model: str, log: Path, folder: Path
) -> Iterator[Server]:
    """Start it in `folder`, wait for it, and end it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
            start_new_session=True,  # an interrupt at the terminal is the benchmark's to handle
        )
    server = Server(process, f"http://127.0.0.1:{port}", model, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _family(pid: int) -> Iterator[int]:
    """A process and all it started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            started = children.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in started:
            yield from _family(int(child))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it has ended
        return 0
