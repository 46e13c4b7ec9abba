"""Recurrent models: forks, continuations and a small cache give the tokens of full passes."""

import asyncio
from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerBase

from branchwise.backends.engine.model.recurrent import RecurrentModel
from branchwise.core.sampling import Sampling
from tests.support.architectures import END, RECURRENT, network, own_logprobs, recomputed
from tests.support.branches import SAMPLING, MakeEngine, generate, generate_tokens, make_root

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:.*falling back")]

SHORT = replace(SAMPLING, max_tokens=12)


@pytest.mark.parametrize("name", RECURRENT)
async def test_greedy_tokens_are_those_of_full_passes(make_engine: MakeEngine, name: str) -> None:
    model, engine = network(name), make_engine(name, prefill_chunk=7)
    assert isinstance(engine._model, RecurrentModel)
    root = await make_root(engine)
    greedy = Sampling(temperature=0, max_tokens=20)
    expected = recomputed(model, root.token_ids, 0, greedy)
    assert await generate_tokens(engine, root, (1, 2), greedy) == [expected, expected]
    (again, *_), _ = await asyncio.gather(
        generate_tokens(engine, root, (3,), greedy), generate_tokens(engine, root, range(9, 14))
    )
    assert again == expected


@pytest.mark.parametrize("name", RECURRENT)
async def test_sampled_tokens_do_not_depend_on_other_branches(make_engine: MakeEngine, name: str) -> None:
    model, engine = network(name), make_engine(name)
    root, other = await make_root(engine), await make_root(engine, "And what is 3 + 4? " * 3)
    expected = [recomputed(model, root.token_ids, key, SHORT) for key in range(4)]
    assert len({*expected}) == 4
    got, _ = await asyncio.gather(
        generate_tokens(engine, root, range(4), SHORT), generate_tokens(engine, other, range(3), SAMPLING)
    )
    assert got == expected
    for key in (2, 3, 0):
        assert await generate_tokens(engine, root, (key,), SHORT) == [expected[key]], (
            "from the cache, any number of times"
        )
    narrow = make_engine(name, max_batch=1)
    assert await generate_tokens(narrow, root, range(4), SHORT) == expected, "one branch at a time"


@pytest.mark.parametrize("name", RECURRENT)
async def test_a_path_continues_from_its_snapshot(make_engine: MakeEngine, name: str) -> None:
    model, engine = network(name), make_engine(name)
    root = await make_root(engine)
    (first,) = await generate(engine, root, (5,), replace(SHORT, max_tokens=6))
    if END in first.tokens:
        pytest.skip("the random model ended its turn")
    (second,) = await generate(engine, first.path, (5,), replace(SHORT, max_tokens=6))
    assert second.cost.prefilled == 1, "only the last token, which was sampled but not computed"
    assert first.tokens + second.tokens == recomputed(model, root.token_ids, 5, SHORT)
    cut = first.path.cut(3)
    (third,) = await generate(engine, cut, (9,), SHORT)
    assert third.cost.prefilled == 3, "a state cannot be truncated: it is computed again from the prompt's"
    assert third.tokens == recomputed(model, cut.all_token_ids(), 9, SHORT)


@pytest.mark.parametrize("name", ["mamba2", "qwen3-next", "xlstm", "jamba"])
async def test_scores_are_those_of_full_passes(
    make_engine: MakeEngine, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    model, engine = network(name), make_engine(name)
    path = await make_root(engine)
    texts = ("So it is 42.", "x")
    scores = await engine.score(path, texts)
    for text, row in zip(texts, scores.logprobs, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False)
        own = own_logprobs(model, [*path.token_ids, *ids])[len(path.token_ids) - 1 :]
        assert row == pytest.approx([own[i, token].item() for i, token in enumerate(ids)], abs=1e-4)


async def test_the_size_of_a_state_does_not_depend_on_the_path(make_engine: MakeEngine) -> None:
    engine = make_engine("xlstm")
    loop, model = engine._loop, engine._model
    assert isinstance(model, RecurrentModel)
    root, long = await make_root(engine), await make_root(engine, "word " * 200)
    for path, count in ((root, 10), (long, 200)):
        await generate(engine, path, range(3), replace(SAMPLING, max_tokens=count))
        assert not loop.pool.keys, "no keys or values at all"
        assert loop.pool.hidden is None
        states = loop.snapshots.states()
        assert {state.states.row_bytes() for state in states} == {model.state_bytes}
        assert all(state.states.rows == 1 for state in states)


async def test_few_snapshots_give_the_same_tokens(make_engine: MakeEngine) -> None:
    large = make_engine("mamba2")
    state = large._model.state_bytes  # type: ignore[attr-defined]
    small = make_engine("mamba2", memory=4 * state)
    assert small._loop.snapshots.capacity == 2
    roots = [await make_root(large, f"What is {i} times 7?") for i in range(6)]
    expected = [await generate_tokens(large, root, range(3), SHORT) for root in roots]
    for _ in range(2):
        assert await asyncio.gather(*(generate_tokens(small, root, range(3), SHORT) for root in roots)) == expected
    assert len(small._loop.snapshots) <= 2
