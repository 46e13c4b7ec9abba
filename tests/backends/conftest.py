"""Backends that the contract is tested on."""

from collections.abc import Callable, Iterator

import pytest

from branchwise.backends.base import Backend
from branchwise.backends.engine.engine import Engine
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.backends.scripted.backend import ScriptedBackend
from tests.support.contract import CAPABILITIES, STORY
from tests.support.fake_server import FakeFeatures, FakeServer

ENGINES = ("engine", "drafting engine")
REMOTE = ("openai tokens", "openai text")


@pytest.fixture(params=[*CAPABILITIES, *ENGINES, *REMOTE])
def backend(request: pytest.FixtureRequest) -> Backend:
    return _backend(request)


@pytest.fixture(params=["scripted", "blocks", *ENGINES, "openai tokens"])
def exact(request: pytest.FixtureRequest) -> Backend:
    """Return a backend that takes and returns tokens."""
    return _backend(request)


@pytest.fixture(params=["scripted", "text", "engine", *REMOTE])
def fresh(request: pytest.FixtureRequest, copy_tiny_engine: Callable[[], Engine]) -> Backend:
    """Return a backend that the test may close."""
    if request.param in REMOTE:
        return OpenAIBackend.load(_remote(request).settings)
    return _scripted(request.param) if request.param in CAPABILITIES else copy_tiny_engine()


@pytest.fixture
def copy_tiny_engine(tiny_engine: Engine) -> Callable[[], Engine]:
    """Return a function that makes engines like the shared one; `make_engine` of tests/conftest.py makes others."""
    shared = tiny_engine
    return lambda: Engine(
        type(shared._model.network)(shared._model.network.config).double(),
        shared._tokenizer,
        name="fresh",
        settings=shared.settings,
    )


@pytest.fixture(scope="module")
def token_server() -> Iterator[tuple[FakeServer, OpenAIBackend]]:
    yield from _serve(FakeFeatures())


@pytest.fixture(scope="module")
def text_server() -> Iterator[tuple[FakeServer, OpenAIBackend]]:
    yield from _serve(FakeFeatures(tokens=False))


def _backend(request: pytest.FixtureRequest) -> Backend:
    """Return the backend that the fixture's parameter names, with an empty cache."""
    if request.param in CAPABILITIES:
        return _scripted(request.param)
    if request.param in REMOTE:
        return _remote(request)
    fixture = "drafting_engine" if request.param == "drafting engine" else "tiny_engine"
    engine: Engine = request.getfixturevalue(fixture)
    engine.clear()
    return engine


def _scripted(name: str) -> ScriptedBackend:
    return ScriptedBackend(lambda path, before: STORY, capabilities=CAPABILITIES[name])


def _serve(features: FakeFeatures) -> Iterator[tuple[FakeServer, OpenAIBackend]]:
    with FakeServer(lambda prompt, before: STORY, features) as server:
        yield server, OpenAIBackend.load(OpenAISettings((server.url,)))


def _remote(request: pytest.FixtureRequest) -> OpenAIBackend:
    """Return the backend over a server that has forgotten all requests."""
    fixture = "token_server" if request.param == "openai tokens" else "text_server"
    server, backend = request.getfixturevalue(fixture)
    server.reset()
    assert isinstance(backend, OpenAIBackend)
    return backend
