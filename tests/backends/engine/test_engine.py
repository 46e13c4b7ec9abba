"""The engine: tokens that depend on their key alone, and paths continued in several requests.

Comparisons run in float64 on a tiny random model, where rounding never decides a token.
"""

import asyncio
import copy
from dataclasses import replace

import pytest

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from tests.support.branches import SAMPLING, MakeEngine, collect, generate, generate_tokens, make_root

pytestmark = pytest.mark.usefixtures("one_thread")


FILTERED = Sampling(temperature=0.7, top_p=0.9, top_k=20, min_p=0.05, max_tokens=24)


@pytest.mark.parametrize(
    "sampling", [FILTERED, replace(SAMPLING, stop=("never",)), replace(SAMPLING, temperature=0.7, top_p=0.9)]
)
async def test_the_tokens_of_a_key_depend_on_no_other_branch(make_tiny_engine: MakeEngine, sampling: Sampling) -> None:
    engine, questions = make_tiny_engine(), ["Other?", "And what is 3 + 4? " * 5, "Why?"]
    root = await make_root(engine)
    keys = range(100, 108)
    alone = []
    for key in keys:
        engine.clear()
        alone += await generate_tokens(engine, root, (key,), sampling)
    assert len(set(alone)) == 8
    engine.clear()
    assert await generate_tokens(engine, root, keys, sampling) == alone, "batched with 7 others"
    assert await generate_tokens(engine, root, keys[::-1], sampling) == alone[::-1], "in another order, from the cache"
    engine.clear()
    others = [await make_root(engine, question) for question in questions]
    requests = [generate_tokens(engine, other, range(5), replace(SAMPLING, top_k=250)) for other in others]
    *_, batched = await asyncio.gather(*requests, generate_tokens(engine, root, keys, sampling))
    assert batched == alone, "batched with other prompts"
    for settings in ({"max_batch": 2}, {"prefill_chunk": 3}):
        assert await generate_tokens(make_tiny_engine(**settings), root, keys, sampling) == alone, str(settings)


@pytest.mark.parametrize("step", [1, 5])
async def test_a_path_continued_in_steps_is_the_path_of_one_request(make_tiny_engine: MakeEngine, step: int) -> None:
    engine = make_tiny_engine()
    root = await make_root(engine)
    (whole,) = await generate(engine, root, (7,), replace(SAMPLING, max_tokens=60))
    assert "\ufffd" in whole.path.text  # a step may end inside a character
    engine.clear()
    path = root
    while path.generated < whole.path.generated:
        (branch,) = await generate(engine, path, (7,), replace(SAMPLING, max_tokens=step))
        path = branch.path
        assert branch.cost.prefilled == (len(root.token_ids) if path.generated <= step else 1)
        engine.release([path])
    assert path.all_token_ids() == whole.path.all_token_ids()
    assert path.answer_text == whole.path.answer_text
    assert path.sampled_logprobs() == pytest.approx(whole.path.sampled_logprobs(), abs=1e-6)


async def test_a_path_that_fills_the_context_cannot_be_continued(make_tiny_engine: MakeEngine) -> None:
    engine = make_tiny_engine()
    root = await make_root(engine, "x" * 460)
    (branch,) = await generate(engine, root, (1,), Sampling(temperature=0, max_tokens=10_000))
    assert branch.path.stop_reason is StopReason.LENGTH
    assert len(branch.path.all_token_ids()) == engine.capabilities.context
    full = Path(root, 1, tuple([65] * (512 - len(root.token_ids))), "A" * (512 - len(root.token_ids)))
    extension = engine.extend(ExtendRequest(full, (1, 2), SAMPLING))
    extension.cancel(0)
    ended = await collect(extension, full, (1, 2))
    assert [(branch.path.stop_reason, branch.tokens) for branch in ended] == [(StopReason.LENGTH, ())] * 2


async def test_a_prefix_of_a_cached_prompt_gives_its_own_tokens(make_tiny_engine: MakeEngine) -> None:
    engine, clean = make_tiny_engine(), make_tiny_engine()
    root = await make_root(engine)
    await generate_tokens(engine, root, (1,))
    for length in (1, 9, len(root.token_ids) - 1):
        part = Path(None, 1, root.token_ids[:length], "", messages=root.messages)
        clean.clear()
        assert await generate_tokens(engine, part, (1, 2)) == await generate_tokens(clean, part, (1, 2))


async def test_8_bit_weights_are_close_and_reported(tiny_engine: Engine) -> None:
    shared = tiny_engine._model.network
    engines = []
    for weights in (None, "int8"):
        network = type(shared)(copy.deepcopy(shared.config)).float()
        network.load_state_dict({name: value.float() for name, value in shared.state_dict().items()})
        settings = EngineSettings(memory=1 << 24, weights=weights)
        engines.append(Engine(network, tiny_engine._tokenizer, name="tiny", settings=settings))
    exact, rounded = engines
    try:
        assert exact.capabilities.changes == ()
        assert rounded.capabilities.changes == ("weights rounded to int8",)
        root = await make_root(exact)
        expected, got = [(await engine.score(root, ["and so it is"])).logprobs[0] for engine in engines]
        assert got != expected
        assert got == pytest.approx(expected, abs=0.5)
    finally:
        for engine in engines:
            engine._loop.close()
