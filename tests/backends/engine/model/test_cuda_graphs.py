"""Padded decode steps give the tokens of unpadded ones. Only the test of a captured graph needs a GPU."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import torch

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model import cuda_graphs, plan
from branchwise.backends.engine.model.cuda_graphs import Bucket, CudaGraphRunner
from branchwise.backends.engine.settings import EngineSettings
from tests.support.architectures import moved, network, recomputed
from tests.support.branches import SAMPLING, generate_tokens, make_root

pytestmark = pytest.mark.usefixtures("one_thread")

MakeEngine = Callable[[str], tuple[Engine, CudaGraphRunner]]


@pytest.fixture
def make_engine(tiny_engine: Engine) -> Iterator[MakeEngine]:
    made: list[Engine] = []

    def build(name: str) -> tuple[Engine, CudaGraphRunner]:
        engine = Engine(
            network(name), tiny_engine._tokenizer, name=name, settings=EngineSettings(memory=1 << 24, speculation="off")
        )
        made.append(engine)
        engine._model.enable_cuda_graphs(engine._loop.pool)
        runner = engine._model._cuda_graphs
        assert runner is not None
        return engine, runner

    yield build
    for engine in made:
        engine._loop.close()


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral-window"])
@pytest.mark.parametrize("min_shared", [1, 768])
async def test_tokens_are_those_of_full_passes(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, name: str, min_shared: int
) -> None:
    monkeypatch.setattr(plan, "_MIN_SHARED_TOKENS", min_shared)
    monkeypatch.setattr(cuda_graphs, "_MIN_OWN_SLOTS", 8)
    monkeypatch.setattr(cuda_graphs, "_MIN_SHARED_SLOTS", 8)
    model, (engine, runner) = network(name), make_engine(name)
    roots = [await make_root(engine, question) for question in ("What is 6 times 7?", "Why?")]
    sampled = await asyncio.gather(*(generate_tokens(engine, root, range(3)) for root in roots))
    for root, found in zip(roots, sampled, strict=True):
        assert found == [recomputed(model, root.token_ids, key, SAMPLING) for key in range(3)]
    if name != "mistral-window":  # whose window of 8 tokens is narrower than any prompt
        assert len({bucket.rows for bucket in runner._steps}) > 1
        assert any(bucket.shared for bucket in runner._steps) == (min_shared == 1)


async def test_steps_beyond_the_maximum_of_graphs_run_without_one(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "_MAX_GRAPHS", 1)
    monkeypatch.setattr(cuda_graphs, "_MIN_OWN_SLOTS", 8)
    engine, runner = make_engine("llama")
    root = await make_root(engine)
    assert await generate_tokens(engine, root, (1,)) == [recomputed(network("llama"), root.token_ids, 1, SAMPLING)]
    assert len(runner._steps) == 1


@pytest.mark.parametrize(
    ("sizes", "bucket"),
    [((1, 0, 1), (1, 0, 64)), ((3, 1, 64), (4, 256, 64)), ((64, 1500, 65), (64, 2048, 128))],
)
def test_a_bucket_is_the_smallest_that_fits_a_step(sizes: tuple[int, int, int], bucket: tuple[int, int, int]) -> None:
    assert Bucket.of(*sizes) == bucket


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
async def test_a_replayed_graph_gives_the_same_tokens(tiny_engine: Engine) -> None:
    model = network("llama")
    settings = EngineSettings(memory=1 << 24, device="cuda")
    engine = Engine(moved(network("llama"), device="cuda"), tiny_engine._tokenizer, name="llama", settings=settings)
    root = await make_root(engine)
    assert await generate_tokens(engine, root, range(5)) == [
        recomputed(model, root.token_ids, key, SAMPLING) for key in range(5)
    ]
    runner = engine._model._cuda_graphs
    assert runner is not None
    assert all(step.graph is not None for step in runner._steps.values())
    engine._loop.close()
