"""Real servers of vLLM for tests: with a key, and small."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.servers import PLUGIN, vllm_server

API_KEY = "a-key-of-this-test"
MOST = {"BRANCHWISE_MAX_PATHS": "16", "BRANCHWISE_MAX_TOKENS": "8000", "BRANCHWISE_MAX_SECONDS": "900"}


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
    """A server of a model, gone as a whole in the end."""
    options = [
        "--api-key", API_KEY, "--max-model-len", "2048", "--kv-cache-memory-bytes", str(512 << 20),
        "--max-num-seqs", "16", "--enforce-eager", "--generation-config", "auto",
    ]  # fmt: skip
    environment = {**(PLUGIN if plugin else {"VLLM_PLUGINS": "none"}), **MOST}
    with vllm_server(Path(sys.executable), name, options, log, environment) as running:
        yield Server(running.address, running.model, running.log)
