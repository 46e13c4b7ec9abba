"""Real servers for tests, stopped with all their processes: small ones with a key, and tiny ones without."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.servers import PLUGIN, branchwise_server, vllm_server
from tests.vllm.tiny import CONTEXT

API_KEY = "a-key-of-this-test"
MAX_PATHS, MAX_TOKENS, MAX_SECONDS = 16, 8000, 900
BRANCHWISE, VLLM = "branchwise serve", "vllm serve"
KINDS = (VLLM, BRANCHWISE)
_TINY = (
    *("--max-model-len", str(CONTEXT)),
    *("--kv-cache-memory-bytes", str(64 << 20)),
    *("--max-num-seqs", "16"),
    "--enforce-eager",
)
"""Options of vLLM's server of the tiny model."""
_LOADS = {
    VLLM: ("vllm:num_requests_running", "vllm:num_requests_waiting"),
    BRANCHWISE: ("branchwise_branches_running", "branchwise_questions_queued"),
}


@dataclass(frozen=True)
class Server:
    """A running server."""

    kind: str
    address: str
    model: str
    key: str | None = API_KEY

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}

    def busy(self) -> float:
        """Return the number of running and waiting branches, by the server's own metrics."""
        lines = httpx.get(f"{self.address}/metrics", headers=self.headers).text.splitlines()
        # vLLM also reports the waiting ones by reason, under a longer name.
        return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0].split()[0] in _LOADS[self.kind])


@contextmanager
def serving(kind: str, model: str, log: Path, *, plugin: bool = True) -> Iterator[Server]:
    """Run a server with a key and limits."""
    if kind == BRANCHWISE:
        limits = ["--max-paths", MAX_PATHS, "--max-tokens", MAX_TOKENS, "--max-seconds", MAX_SECONDS]
        with branchwise_server(model, [*map(str, limits)], log, {"BRANCHWISE_API_KEY": API_KEY}) as running:
            yield Server(kind, running.address, model)
        return
    options = [
        "--api-key",
        API_KEY,
        "--max-model-len",
        "2048",
        "--max-num-seqs",
        "16",
        "--kv-cache-memory-bytes",
        str(512 << 20),
        "--enforce-eager",
        "--generation-config",
        "auto",
    ]
    limits = {"BRANCHWISE_MAX_PATHS": MAX_PATHS, "BRANCHWISE_MAX_TOKENS": MAX_TOKENS}
    limits |= {"BRANCHWISE_MAX_SECONDS": MAX_SECONDS}
    environment = PLUGIN if plugin else {"VLLM_PLUGINS": "none"}
    environment = environment | {name: str(most) for name, most in limits.items()}
    with vllm_server(Path(sys.executable), model, options, log, environment) as running:
        yield Server(kind, running.address, model)


@contextmanager
def serving_tiny(kind: str, folder: Path, log: Path) -> Iterator[Server]:
    """Run a server of the tiny model, without a key or the plugin."""
    if kind == BRANCHWISE:
        with branchwise_server(str(folder), [], log) as running:
            yield Server(kind, running.address, running.model, None)
        return
    with vllm_server(Path(sys.executable), str(folder), _TINY, log, {"VLLM_PLUGINS": "none"}) as running:
        yield Server(kind, running.address, running.model, None)


@contextmanager
def serving_plugin(folder: Path, log: Path, options: Sequence[str], environment: Mapping[str, str]) -> Iterator[Server]:
    """Run vLLM's server of the tiny model with the plugin and a key, and with further options and variables."""
    given = [*_TINY, "--api-key", API_KEY, *options]
    with vllm_server(Path(sys.executable), str(folder), given, log, PLUGIN | environment) as running:
        yield Server(VLLM, running.address, running.model)


def wait_until(holds: Callable[[], bool], seconds: float) -> float:
    """Wait until `holds` is true. Return the seconds it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it took too long"
        time.sleep(0.02)
    return time.monotonic() - began
