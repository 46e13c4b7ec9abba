"""Decoding steps of fixed shapes compute what steps of any shape do. (Graphs themselves need a GPU.)"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import torch

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model import cuda_graphs as fixed
from branchwise.backends.engine.model import plan
from branchwise.backends.engine.model.cuda_graphs import FixedSteps, Shape
from branchwise.backends.engine.settings import EngineSettings
from tests.support.architectures import network, recomputed
from tests.support.lab import HOT, ask, tokens

pytestmark = pytest.mark.usefixtures("one_thread")

Make = Callable[[str], tuple[Engine, FixedSteps]]


@pytest.fixture
def make(tiny_engine: Engine) -> Iterator[Make]:
    made: list[Engine] = []

    def build(name: str) -> tuple[Engine, FixedSteps]:
        engine = Engine(
            network(name), tiny_engine._tokenizer, name=name, settings=EngineSettings(memory=1 << 24, speculation="off")
        )
        made.append(engine)
        engine._model.fix_shapes(engine._loop.pool)
        steps = engine._model._fixed
        assert steps is not None
        return engine, steps

    yield build
    for engine in made:
        engine._loop.close()


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral-window"])
@pytest.mark.parametrize("worth", [1, 768])
async def test_tokens_are_those_of_full_passes(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str, worth: int
) -> None:
    monkeypatch.setattr(plan, "_WORTH_A_SEGMENT", worth)
    monkeypatch.setattr(fixed, "_LEAST_OWN", 8)
    monkeypatch.setattr(fixed, "_LEAST_SHARED", 8)
    model, (engine, steps) = network(name), make(name)
    roots = [await ask(engine, question) for question in ("What is 6 times 7?", "Why?")]
    drawn = await asyncio.gather(*(tokens(engine, root, range(3)) for root in roots))
    for root, found in zip(roots, drawn, strict=True):
        assert found == [recomputed(model, root.token_ids, key, HOT) for key in range(3)]
    if name != "mistral-window":  # whose window of 8 tokens is narrower than any prompt
        assert len({shape.rows for shape in steps._steps}) > 1
        assert any(shape.shared for shape in steps._steps) == (worth == 1)


async def test_beyond_the_most_shapes_steps_are_computed_as_they_come(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed, "_MOST_SHAPES", 1)
    monkeypatch.setattr(fixed, "_LEAST_OWN", 8)
    engine, steps = make("llama")
    root = await ask(engine)
    assert await tokens(engine, root, (1,)) == [recomputed(network("llama"), root.token_ids, 1, HOT)]
    assert len(steps._steps) == 1


@pytest.mark.parametrize(
    ("counts", "shape"),
    [((1, 0, 1), (1, 0, 64)), ((3, 1, 64), (4, 256, 64)), ((64, 1500, 65), (64, 2048, 128))],
)
def test_a_shape_is_the_smallest_bucket_that_holds_a_step(
    counts: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    assert Shape.of(*counts) == shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
async def test_a_replayed_graph_draws_the_same_tokens(tiny_engine: Engine) -> None:
    model = network("llama")
    settings = EngineSettings(memory=1 << 24, device="cuda")
    engine = Engine(network("llama").cuda(), tiny_engine._tokenizer, name="llama", settings=settings)
    root = await ask(engine)
    assert await tokens(engine, root, range(5)) == [recomputed(model, root.token_ids, key, HOT) for key in range(5)]
    steps = engine._model._fixed
    assert steps is not None
    assert all(step.graph is not None for step in steps._steps.values())
    engine._loop.close()
