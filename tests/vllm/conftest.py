"""Fixtures of the tests with vLLM: servers of a real and of a tiny model, and engines in this process.

The tests need an environment of their own with vLLM's CPU build (see requirements.txt).
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

# Before vLLM is imported, which would bind its threads to all processors but one.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import pytest

from tests.support.tiny_models import tiny_tokenizer
from tests.vllm.servers import KINDS, Server, serving, serving_tiny
from tests.vllm.tiny import save_tiny, tiny_settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's own imports warn
    from branchwise.backends.vllm.backend import VLLMBackend

SMALL, MATH = "SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"


def pytest_configure(config: pytest.Config) -> None:
    """Ignore the warnings of vLLM and its dependencies, which also come from their threads and at exit."""
    config.addinivalue_line("filterwarnings", "ignore")
    # A helper that is collected as a test by mistake returns a value. The last filter takes precedence.
    config.addinivalue_line("filterwarnings", "error::pytest.PytestReturnNotNoneWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Ignore the warnings of what vLLM leaves to the last garbage collection, such as an open ZeroMQ context.

    Filters of single tests no longer hold then, and vLLM's threads may have left those of a test behind:
    `warnings.catch_warnings` of one thread restores filters that another one has set.
    """
    warnings.simplefilter("ignore")


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model that can do some math, vLLM's with the plugin."""
    with serving(request.param, MATH, tmp_path_factory.mktemp("serve") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_server(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of the tiny model; parametrized with its kind."""
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
