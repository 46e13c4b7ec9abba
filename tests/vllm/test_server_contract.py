"""The contract of every backend, kept by the backend `openai` over real servers."""

import pytest
import test_backends as contract

from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from tests.vllm.contract import tests_without
from tests.vllm.servers import KINDS, VLLM, Server

globals().update(tests_without())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tokens are taken and shown by vLLM alone."""
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
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "is_real", lambda backend: True)
    monkeypatch.setattr(contract, "PATIENCE", 300)
