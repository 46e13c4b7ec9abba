"""Models with recurrent layers: forks, continuations and small memories give the tokens of full passes."""

import asyncio
from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerBase

from branchwise.backends.engine.model.recurrent import RecurrentModel
from branchwise.core.sampling import Sampling
from tests.support.architectures import END, RECURRENT, network, own_logprobs, recomputed
from tests.support.lab import HOT, Make, ask, grow, tokens

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:.*falling back")]

SHORT = replace(HOT, max_tokens=12)


@pytest.mark.parametrize("name", RECURRENT)
async def test_greedy_text_is_what_the_model_itself_generates(make: Make, name: str) -> None:
    model, engine = network(name), make(name, prefill_chunk=7)
    assert isinstance(engine._model, RecurrentModel)
    root = await ask(engine)
    greedy = Sampling(temperature=0, max_tokens=20)
    wanted = recomputed(model, root.token_ids, 0, greedy)
    assert await tokens(engine, root, (1, 2), greedy) == [wanted, wanted]
    (again, *_), _ = await asyncio.gather(tokens(engine, root, (3,), greedy), tokens(engine, root, range(9, 14)))
    assert again == wanted


@pytest.mark.parametrize("name", RECURRENT)
async def test_sampled_tokens_are_those_of_full_passes_whatever_runs_beside(make: Make, name: str) -> None:
    model, engine = network(name), make(name)
    root, other = await ask(engine), await ask(engine, "And what is 3 + 4? " * 3)
    wanted = [recomputed(model, root.token_ids, key, SHORT) for key in range(4)]
    assert len({*wanted}) == 4
    got, _ = await asyncio.gather(tokens(engine, root, range(4), SHORT), tokens(engine, other, range(3), HOT))
    assert got == wanted
    for key in (2, 3, 0):
        assert await tokens(engine, root, (key,), SHORT) == [wanted[key]], "from what is held, however often"
    narrow = make(name, max_batch=1)
    assert await tokens(narrow, root, range(4), SHORT) == wanted, "one after the other"


@pytest.mark.parametrize("name", RECURRENT)
async def test_a_path_goes_on_from_where_its_state_was_kept(make: Make, name: str) -> None:
    model, engine = network(name), make(name)
    root = await ask(engine)
    (first,) = await grow(engine, root, (5,), replace(SHORT, max_tokens=6))
    if END in first.tokens:
        pytest.skip("the random model ended its turn")
    (second,) = await grow(engine, first.path, (5,), replace(SHORT, max_tokens=6))
    assert second.cost.prefilled == 1, "only the last token, which was drawn and never computed"
    assert first.tokens + second.tokens == recomputed(model, root.token_ids, 5, SHORT)
    cut = first.path.cut(3)
    (third,) = await grow(engine, cut, (9,), SHORT)
    assert third.cost.prefilled == 3, "a state can't be cut: it is computed again from the prompt's"
    assert third.tokens == recomputed(model, cut.all_token_ids(), 9, SHORT)


@pytest.mark.parametrize("name", ["mamba2", "qwen3-next", "xlstm", "jamba"])
async def test_scores_are_the_models_own(make: Make, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    model, engine = network(name), make(name)
    path = await ask(engine)
    texts = ("So it is 42.", "x")
    scores = await engine.score(path, texts)
    for text, row in zip(texts, scores.logprobs, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False)
        own = own_logprobs(model, [*path.token_ids, *ids])[len(path.token_ids) - 1 :]
        assert row == pytest.approx([own[i, token].item() for i, token in enumerate(ids)], abs=1e-4)


async def test_a_state_takes_the_same_memory_however_long_the_path(make: Make) -> None:
    engine = make("xlstm")
    loop, model = engine._loop, engine._model
    assert isinstance(model, RecurrentModel)
    root, long = await ask(engine), await ask(engine, "word " * 200)
    for path, count in ((root, 10), (long, 200)):
        await grow(engine, path, range(3), replace(HOT, max_tokens=count))
        assert not loop.pool.keys, "no keys or values at all"
        assert loop.pool.hidden is None
        kept = [snapshot.state for snapshot in loop.snapshots._kept if snapshot.state is not None]
        assert {state.states.bytes() for state in kept} == {model.state_bytes}
        assert all(state.states.rows == 1 for state in kept)


async def test_few_snapshots_give_the_same_tokens(make: Make) -> None:
    large = make("mamba2")
    state = large._model.state_bytes  # type: ignore[attr-defined]
    small = make("mamba2", memory=4 * state)
    assert small._loop.snapshots._most == 2
    roots = [await ask(large, f"What is {i} times 7?") for i in range(6)]
    wanted = [await tokens(large, root, range(3), SHORT) for root in roots]
    for _ in range(2):
        assert await asyncio.gather(*(tokens(small, root, range(3), SHORT) for root in roots)) == wanted
    assert len(small._loop.snapshots._kept) <= 2
