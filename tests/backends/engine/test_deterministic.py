"""Equal seeds, equal results: only its path, key and settings change a branch's tokens and log-probabilities."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.core.errors import ConfigError
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from tests.support import architectures
from tests.support.architectures import moved, network
from tests.support.branches import BranchResult, generate, make_root
from tests.support.tiny_models import tiny_tokenizer

MakeTypedEngine = Callable[..., Engine]
SAMPLING = Sampling(temperature=1.0, max_tokens=48)
QUESTIONS = ("What is 6 times 7?", "What is 6 times 7? " * 4, "Name a river.", "Examples help. " * 12)
KEYS = range(60, 66)

pytestmark = [
    pytest.mark.skipif(architectures.DEVICE != "cpu", reason="only a CPU computes rows independently"),
    pytest.mark.usefixtures("one_thread"),  # on more, kernels of tiny layers differ with the row count
]


@pytest.fixture
def make_typed_engine() -> Iterator[MakeTypedEngine]:
    """Make engines over a tiny model in bfloat16 with given settings; drafts are on."""
    made: list[Engine] = []

    def build(model: PreTrainedModel | None = None, **settings: int | str | bool) -> Engine:
        wanted = EngineSettings(**{"memory": 1 << 24, "draft_budget": 6, **settings})  # type: ignore[arg-type]
        model = _network(torch.bfloat16) if model is None else model
        made.append(Engine(model, tiny_tokenizer(), name="tiny", settings=wanted))
        return made[-1]

    yield build
    for engine in made:
        engine._loop.close()


def _network(dtype: torch.dtype) -> LlamaForCausalLM:
    """Return a small model whose sizes are multiples of 32, as those of real models are."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
    )
    return moved(LlamaForCausalLM(config), dtype)


def _values(branches: Sequence[BranchResult]) -> list[tuple[tuple[int, ...], tuple[float, ...] | None]]:
    return [(branch.tokens, branch.path.logprobs) for branch in branches]


async def _alone(engine: Engine, root: Path, key: int) -> list[tuple[tuple[int, ...], tuple[float, ...] | None]]:
    engine.clear()
    return _values(await generate(engine, root, [key], SAMPLING))


async def _cancel_soon(engine: Engine, root: Path, key: int, delay: float) -> None:
    extension = engine.extend(ExtendRequest(root, (key,), SAMPLING))
    await asyncio.sleep(delay)
    extension.cancel(0)
    async for _ in extension:
        pass


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "settings",
    [{}, {"dtype": "float32"}, {"prefill_chunk": 7}, {"small": True}, {"speculation": "off"}],
    ids=["bfloat16", "float32", "short chunks", "preemption", "no drafts"],
)
async def test_joins_cancels_drafts_and_caches_change_no_value(
    make_typed_engine: MakeTypedEngine, settings: dict[str, object], seed: int
) -> None:
    settings = dict(settings)
    dtype = torch.float32 if settings.pop("dtype", None) else torch.bfloat16
    plain = make_typed_engine(_network(dtype), speculation="off")
    if settings.pop("small", False):
        settings["memory"] = 900 * plain._model.token_bytes()
    engine, chance = make_typed_engine(_network(dtype), **settings), random.Random(seed)
    assert engine._model.deterministic
    roots = [await make_root(engine, question) for question in QUESTIONS]
    wanted = {(root, key): await _alone(plain, root, key) for root in roots for key in KEYS}

    async def join(root: Path, keys: Sequence[int]) -> None:
        await asyncio.sleep(chance.random() / 20)
        branches = await generate(engine, root, keys, SAMPLING)
        for key, found in zip(keys, _values(branches), strict=True):
            assert [found] == wanted[root, key]

    for _ in range(2):
        joins = [join(root, chance.sample(KEYS, chance.choice((1, 2, 5)))) for root in roots]
        cancels = [_cancel_soon(engine, chance.choice(roots), 90 + i, chance.random() / 20) for i in range(3)]
        await asyncio.gather(*joins, *cancels)


async def test_a_continued_path_has_the_same_values_cached_or_computed_again(
    make_typed_engine: MakeTypedEngine,
) -> None:
    engine = make_typed_engine(speculation="off")
    root = await make_root(engine)
    (branch,) = await generate(engine, root, [5], SAMPLING)
    for length in (1, 20, 40):
        cut = branch.path.cut(length)
        cached = _values(await generate(engine, cut, KEYS, SAMPLING))
        engine.clear()
        assert _values(await generate(engine, cut, KEYS, SAMPLING)) == cached
        engine.clear()
        scores = await engine.score(cut, ["yes", "no, never"])
        assert scores.logprobs == (await engine.score(cut, ["no, never", "yes"])).logprobs[::-1]


async def test_the_fast_path_rounds_by_what_else_is_computed(make_typed_engine: MakeTypedEngine) -> None:
    """Without the setting, the values above differ: otherwise these tests prove nothing."""
    engine = make_typed_engine(deterministic=False)
    assert not engine._model.deterministic
    root = await make_root(engine, QUESTIONS[3])
    alone = [await _alone(engine, root, key) for key in KEYS]
    assert [[one] for one in _values(await generate(engine, root, KEYS, SAMPLING))] != alone


_SCRIPT = """
import asyncio, sys, torch
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.core.sampling import Sampling
from tests.support.branches import generate, make_root
from tests.backends.engine.test_deterministic import _network
from tests.support.tiny_models import tiny_tokenizer

async def main(first):
    settings = EngineSettings(memory=1 << 24, draft_budget=6)
    engine = Engine(_network(torch.bfloat16), tiny_tokenizer(), name="tiny", settings=settings)
    sampling = Sampling(temperature=1.0, max_tokens=48)
    root = await make_root(engine, "Examples help. " * 12)
    if first:
        await generate(engine, root, range(first), sampling)
    branches = await generate(engine, root, range(60, 64), sampling)
    print([(branch.tokens, branch.path.logprobs) for branch in branches])
    await engine.close()

asyncio.run(main(int(sys.argv[1])))
"""


def test_processes_with_other_histories_print_the_same_values() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", _SCRIPT, first], capture_output=True, text=True, check=True)
        for first in ("0", "7")
    ]
    assert len({run.stdout for run in runs}) == 1
    assert len(runs[0].stdout) > 1000


def test_rejection_sampling_is_not_deterministic() -> None:
    with pytest.raises(ConfigError, match=r"deterministic.*rejection"):
        EngineSettings(acceptance="rejection", deterministic=True)
    assert EngineSettings(acceptance="rejection").deterministic is None


def test_a_recurrent_model_refuses_the_setting(make_typed_engine: MakeTypedEngine) -> None:
    with pytest.raises(ConfigError, match=r"deterministic.*on a CPU"):
        make_typed_engine(network("mamba2"), deterministic=True)
