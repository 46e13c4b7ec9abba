"""Fixtures of the engine's tests: engines over the tiny model with settings of their own."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from tests.support.branches import MakeEngine

SMALL = 200
"""Tokens that fit into the cache of `small_engine`."""


@pytest.fixture
def make_tiny_engine(tiny_engine: Engine) -> Iterator[MakeEngine]:
    """Make engines over the tiny model with given settings, and close them after the test."""
    made: list[Engine] = []

    def build(**settings: int | str) -> Engine:
        shared = tiny_engine._model.network
        network = type(shared)(copy.deepcopy(shared.config)).to(shared.device, shared.dtype)
        network.load_state_dict(shared.state_dict())
        fields: dict[str, Any] = {"memory": 1 << 24, "speculation": "off", **settings}
        made.append(Engine(network, tiny_engine._tokenizer, name="tiny", settings=EngineSettings(**fields)))
        return made[-1]

    yield build
    for engine in made:
        engine._loop.close()


@pytest.fixture
def small_engine(make_tiny_engine: MakeEngine, tiny_engine: Engine) -> Engine:
    """An engine over the tiny model whose cache has few slots."""
    engine = make_tiny_engine(memory=SMALL * tiny_engine._model.token_bytes())
    assert engine.capabilities.context == engine._loop.tree.capacity == SMALL
    return engine
