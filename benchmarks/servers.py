"""Servers under test, each a process group on its own port that is ended as a whole."""

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
DEV_MODE = {**PLUGIN, "VLLM_SERVER_DEV_MODE": "1"}  # has the route that empties the prefix cache
_VLLM = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


class ServerError(Exception):
    """A server did not start, or exited while starting."""


class Server:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, model: str, log: Path) -> None:
        self.address = address
        self.model = model
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def resident(self) -> int:
        """Return the resident bytes of all its processes (Linux)."""
        return sum(map(_resident, _process_tree(self.pid)))

    def wait_until_ready(self, seconds: float = _START_SECONDS) -> None:
        """Wait until `/health` answers. Raises ServerError after `seconds` or if the process ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if httpx.get(f"{self.address}/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        output = self.log.read_text(errors="replace")[-2000:]
        raise ServerError(f"the server did not start; the end of {self.log}:\n{output}")

    def close(self) -> None:
        """End all its processes: SIGTERM, then SIGKILL."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, signal_number)
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                return


@contextmanager
def branchwise_server(
    model: str, options: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run `branchwise serve` with further options. Raises ServerError if it does not start."""
    port = _free_port()
    command = [sys.executable, "-m", "branchwise.cli.main", "serve", "--model", model, "--port", str(port), *options]
    with _running(command, environment or {}, port, model, log, Path.cwd()) as server:
        yield server


@contextmanager
def vllm_server(
    python: Path, model: str, options: Sequence[str], log: Path, environment: Mapping[str, str] = DEV_MODE
) -> Iterator[Server]:
    """Run `vllm serve` in vLLM's environment, by default with the plugin. Raises ServerError if it does not start.

    The dtype is the one in which the embedded engine runs the model on this processor. The server starts from its
    module, because the command `vllm` requires a package of that name and the CPU build is called `vllm-cpu`.
    """
    port = _free_port()
    folder = resolve(model, lambda *_: None)
    command = [
        *(str(python.absolute()), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder.absolute()), "--served-model-name", model, "--dtype", fast_dtype(folder)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", "4096", "--max-num-seqs", "64", "--block-size", "32"),
        *("--kv-cache-memory-bytes", str(int(_KV_GIB * 2**30))),
        *("--generation-config", "vllm", "--enable-prompt-tokens-details"),
        *(["--enforce-eager"] if _EAGER else []),
        *options,
    ]
    with _running(command, {**_VLLM, **environment}, port, model, log, log.parent) as server:
        yield server


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], port: int, model: str, log: Path, folder: Path
) -> Iterator[Server]:
    """Start `command` in `folder`, wait until the server is ready, and end it at exit."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
            start_new_session=True,  # only the benchmark handles an interrupt at the terminal
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


def _process_tree(pid: int) -> Iterator[int]:
    """Yield the ids of a process and its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            started = children.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in started:
            yield from _process_tree(int(child))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it has ended
        return 0
