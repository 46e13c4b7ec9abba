"""The contract of every backend, for the backend `openai` over real servers."""

import pytest

from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from tests.support import contract
from tests.vllm.contract import contract_without
from tests.vllm.servers import KINDS, VLLM, Server

globals().update(contract_without())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of exact tokens on vLLM alone: only vLLM accepts and returns tokens."""
    if "tiny_server" in metafunc.fixturenames:
        kinds = [VLLM] if "exact" in metafunc.fixturenames else KINDS
        metafunc.parametrize("tiny_server", kinds, indirect=True, scope="session")


@pytest.fixture(scope="module")
def backend(tiny_server: Server) -> OpenAIBackend:
    return OpenAIBackend.load(OpenAISettings((tiny_server.address,)))


@pytest.fixture
def exact(backend: OpenAIBackend) -> OpenAIBackend:
    assert backend.capabilities.token_in
    assert backend.capabilities.token_out
    return backend


@pytest.fixture
def fresh(backend: OpenAIBackend) -> OpenAIBackend:
    """A backend the test may close."""
    return OpenAIBackend.load(backend.settings)


@pytest.fixture(autouse=True)
def real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "is_real_server", lambda backend: True)
    monkeypatch.setattr(contract, "TIMEOUT_SECONDS", 300)
