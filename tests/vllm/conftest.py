"""What the tests with vLLM share: servers of a real model and of a tiny one, and engines in this process.

They run in an environment with vLLM's CPU build (see requirements.txt), apart from all other tests.
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

# Before vLLM is imported. It would bind its threads to all processors but one.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import pytest

from tests.conftest import tiny_tokenizer
from tests.vllm.servers import KINDS, Server, serving, serving_tiny
from tests.vllm.tiny import save_tiny, tiny_settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's own imports warn
    from branchwise.backends.vllm.backend import VLLMBackend

SMALL, MATH = "SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"


def pytest_configure(config: pytest.Config) -> None:
    """vLLM and what it brings warn of their own affairs, in threads of their own and when all is over, too."""
    config.addinivalue_line("filterwarnings", "ignore")


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On the model that can do some math; vLLM has the plugin."""
    with serving(request.param, MATH, tmp_path_factory.mktemp("serve") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_server(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """On the tiny model; parametrized with its kind."""
    with serving_tiny(request.param, tiny_folder, tmp_path_factory.mktemp("serve") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", tiny_tokenizer())


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Iterator[VLLMBackend]:
    """The tiny model in this process."""
    backend = VLLMBackend.load(str(tiny_folder), tiny_settings())
    yield backend
    backend._shut_down()


@pytest.fixture(scope="session")
def small() -> Iterator[VLLMBackend]:
    """A real small model in this process."""
    backend = VLLMBackend.load(SMALL, tiny_settings(max_model_len=2048, kv_cache_memory_bytes=256 << 20))
    yield backend
    backend._shut_down()
