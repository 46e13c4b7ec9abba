"""The engine at work: keyed tokens whatever runs beside, paths resumed step by step, small memories.

Strict comparisons run in float64 on tiny random models, where rounding never decides a token.
"""

import asyncio
import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.cache.kv_pool import Index, Pool
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.stream import BranchEvent, Broken, Ended
from branchwise.core.errors import BackendError
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from tests.support.lab import HOT, ask, grow, hear, runs_of, tokens

pytestmark = pytest.mark.usefixtures("one_thread")

Make = Callable[..., Engine]


@pytest.fixture
def make(tiny_engine: Engine) -> Iterator[Make]:
    """Engines over the tiny model with settings of their own, closed when the test is over."""
    made: list[Engine] = []

    def build(**settings: int | str) -> Engine:
        shared = tiny_engine._model.network
        network = type(shared)(copy.deepcopy(shared.config)).to(shared.device, shared.dtype)
        network.load_state_dict(shared.state_dict())
        settings = {"memory": 1 << 24, "speculation": "off", **settings}
        made.append(Engine(network, tiny_engine._tokenizer, name="tiny", settings=EngineSettings(**settings)))
        return made[-1]

    yield build
    for engine in made:
        engine._loop.close()


FILTERED = Sampling(temperature=0.7, top_p=0.9, top_k=20, min_p=0.05, max_tokens=24)


@pytest.mark.parametrize(
    "sampling", [FILTERED, replace(HOT, stop=("never",)), replace(HOT, temperature=0.7, top_p=0.9)]
)
async def test_a_key_draws_the_same_tokens_whatever_runs_beside_it(make: Make, sampling: Sampling) -> None:
    engine, questions = make(), ["Other?", "And what is 3 + 4? " * 5, "Why?"]
    root = await ask(engine)
    keys = range(100, 108)
    alone = []
    for key in keys:
        engine.clear()
        alone += await tokens(engine, root, (key,), sampling)
    assert len(set(alone)) == 8
    engine.clear()
    assert await tokens(engine, root, keys, sampling) == alone, "among 7 others"
    assert await tokens(engine, root, keys[::-1], sampling) == alone[::-1], "in another order, from what is held"
    engine.clear()
    others = [await ask(engine, question) for question in questions]
    crowd = [tokens(engine, other, range(5), replace(HOT, top_k=250)) for other in others]
    *_, among = await asyncio.gather(*crowd, tokens(engine, root, keys, sampling))
    assert among == alone, "beside other prompts"
    for settings in ({"max_batch": 2}, {"prefill_chunk": 3}):
        assert await tokens(make(**settings), root, keys, sampling) == alone, str(settings)


@pytest.mark.parametrize("step", [1, 5])
async def test_a_path_resumed_step_by_step_is_the_path_of_one_run(make: Make, step: int) -> None:
    engine = make()
    root = await ask(engine)
    (whole,) = await grow(engine, root, (7,), replace(HOT, max_tokens=60))
    assert "\ufffd" in whole.path.text  # steps end inside characters, too
    engine.clear()
    path = root
    while path.generated < whole.path.generated:
        (branch,) = await grow(engine, path, (7,), replace(HOT, max_tokens=step))
        path = branch.path
        assert branch.cost.prefilled == (len(root.token_ids) if path.generated <= step else 1)
        engine.release([path])
    assert path.all_token_ids() == whole.path.all_token_ids()
    assert path.answer_text == whole.path.answer_text
    assert path.sampled_logprobs() == pytest.approx(whole.path.sampled_logprobs(), abs=1e-6)


async def test_a_path_that_fills_the_context_ends_and_cannot_grow(make: Make) -> None:
    engine = make()
    root = await ask(engine, "x" * 460)
    (branch,) = await grow(engine, root, (1,), Sampling(temperature=0, max_tokens=10_000))
    assert branch.path.stop_reason is StopReason.LENGTH
    assert len(branch.path.all_token_ids()) == engine.capabilities.context
    full = Path(root, 1, tuple([65] * (512 - len(root.token_ids))), "A" * (512 - len(root.token_ids)))
    extension = engine.extend(ExtendRequest(full, (1, 2), HOT))
    extension.cancel(0)
    ended = await hear(extension, full, (1, 2))
    assert [(branch.path.stop_reason, branch.tokens) for branch in ended] == [(StopReason.LENGTH, ())] * 2


SMALL = 200  # tokens a small engine holds


@pytest.fixture
def small(make: Make, tiny_engine: Engine) -> Engine:
    engine = make(memory=SMALL * tiny_engine._model.token_bytes())
    assert engine.capabilities.context == engine._loop.tree.size == SMALL
    return engine


async def test_a_small_memory_gives_the_same_tokens_again_and_again(make: Make, small: Engine) -> None:
    large = make()
    for i in range(12):
        root = await ask(large, f"What is {i} times 7, and is that what you want?")
        assert await tokens(small, root, (i, 50)) == await tokens(large, root, (i, 50))
        assert small._loop.tree.held <= SMALL


@pytest.mark.parametrize("copies", [1, 3])
async def test_branches_that_do_not_fit_at_once_take_turns(make: Make, small: Engine, copies: int) -> None:
    large, long = make(), replace(HOT, max_tokens=90)
    roots = [await ask(large, f"What is {i} times 7?") for i in range(10)]
    wanted = [await tokens(large, root, range(i, i + copies), long) for i, root in enumerate(roots)]
    asked = (grow(small, root, range(i, i + copies), long) for i, root in enumerate(roots))
    grown = await asyncio.gather(*asked)
    assert [[branch.tokens for branch in branches] for branches in grown] == wanted
    costs = [branch.cost for branches in grown for branch in branches]
    assert all(cost.prompt == cost.reused + cost.prefilled for cost in costs)
    assert sum(cost.prompt for cost in costs) > sum(len(root.token_ids) for root in roots) * copies, (
        "none was preempted"
    )
    assert sum(cost.discarded for cost in costs) == 0


async def test_long_prompts_that_do_not_fit_together_take_turns(make: Make, small: Engine) -> None:
    large = make(prefill_chunk=16)
    roots = [await ask(large, letter * 120) for letter in "abcd"]
    wanted = [await tokens(large, root, (i,)) for i, root in enumerate(roots)]
    assert await asyncio.gather(*(tokens(small, root, (i,)) for i, root in enumerate(roots))) == wanted


async def test_a_low_priority_gives_way(make: Make, tiny_engine: Engine) -> None:
    engine, order = make(max_batch=2), list[int]()
    root = await ask(engine)

    async def one(key: int, priority: int) -> None:
        await hear(engine.extend(ExtendRequest(root, (key, key + 100), HOT, priority)), root, (key, key + 100))
        order.append(key)

    await asyncio.gather(*(one(key, priority) for key, priority in ((1, 0), (2, 5), (3, 5), (4, 1))))
    assert order == [1, 4, 2, 3]


async def test_a_score_that_does_not_fit_is_told_and_never_reads_what_was_evicted(make: Make, small: Engine) -> None:
    path = await ask(small, "x" * 120)
    fits, too_much = ("y" * 10,), tuple(letter * 45 for letter in "abc")
    large = make()
    wanted = pytest.approx((await large.score(path, fits)).logprobs[0], abs=1e-5)
    assert (await small.score(path, fits)).logprobs[0] == wanted
    with pytest.raises(BackendError, match="memory"):
        await small.score(path, too_much)
    assert (await small.score(path, fits)).logprobs[0] == wanted


async def test_scores_wait_for_branches_that_fill_the_memory(make: Make, small: Engine) -> None:
    path, large = await ask(small, "x" * 60), make()
    wanted = pytest.approx((await large.score(path, ("y" * 60,))).logprobs[0], abs=1e-5)
    grown, *scores = await asyncio.gather(
        grow(small, path, (1, 2), replace(HOT, max_tokens=60)), *(small.score(path, ("y" * 60,)) for _ in range(3))
    )
    assert all(branch.finished for branch in grown)
    assert all(score.logprobs[0] == wanted for score in scores)


async def test_nothing_is_held_once_all_is_dropped(make: Make) -> None:
    engine = make(prefill_chunk=5, max_batch=3)
    roots = [await ask(engine, question) for question in ("One?", "One? Two?", "Three?")]
    await asyncio.gather(*(tokens(engine, root, range(6)) for root in roots), engine.score(roots[0], ["ab", "ac"]))
    assert engine._loop.tree.held > 0
    engine.clear()
    await engine.close()
    assert engine._loop.tree.held == 0
    assert not engine._loop.tree.root.children


async def test_no_slot_is_read_before_it_is_written(make: Make) -> None:
    """In a pool full of not-a-numbers, one read of a slot nobody wrote makes every token after it nonsense."""
    engine, clean = make(prefill_chunk=7), make()
    warm = await ask(engine, "warm")
    await tokens(engine, warm, (1,))  # reserves the pools
    engine.clear()
    pool = engine._loop.pool
    assert pool.hidden is not None
    with torch.inference_mode():
        for layer in (*pool.keys.values(), *pool.values.values(), pool.hidden):
            layer[1:] = torch.nan
    roots = [await ask(engine, question) for question in ("One?", "One? Two?", "Three? " * 9)]
    wanted = [await tokens(clean, root, range(6)) for root in roots]
    assert await asyncio.gather(*(tokens(engine, root, range(6)) for root in roots)) == wanted


async def test_what_is_held_is_never_written_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another pass may round otherwise: it must not change what running branches read."""
    engine, write, twice = make(prefill_chunk=7), Pool.write, list[int]()

    def watched(pool: Pool, layer: int, index: Index, keys: torch.Tensor, values: torch.Tensor) -> None:
        slots = range(index.start, index.stop) if isinstance(index, slice) else index.tolist()
        held = {slot for run in runs_of(engine._loop.tree) for slot in run.slots}
        twice.extend(slot for slot in slots if slot in held)
        write(pool, layer, index, keys, values)

    monkeypatch.setattr(Pool, "write", watched)
    root = await ask(engine)
    part = Path(None, 1, root.token_ids[:-3], "", messages=root.messages)
    for _ in range(2):
        await asyncio.gather(tokens(engine, root, (1, 2, 3)), tokens(engine, root, (1,)), tokens(engine, part, (1, 2)))
    assert not twice


async def test_a_prompt_inside_another_one_gives_its_own_tokens(make: Make) -> None:
    engine, clean = make(), make()
    root = await ask(engine)
    await tokens(engine, root, (1,))
    for length in (1, 9, len(root.token_ids) - 1):
        part = Path(None, 1, root.token_ids[:length], "", messages=root.messages)
        clean.clear()
        assert await tokens(engine, part, (1, 2)) == await tokens(clean, part, (1, 2))


async def test_what_branches_have_in_common_is_computed_once(make: Make) -> None:
    engine, header = make(), "An example of what is wanted. " * 8
    roots = [await ask(engine, f"{header}{i} + {i}?") for i in range(4)]
    same = len([1 for column in zip(*(root.token_ids for root in roots), strict=False) if len(set(column)) == 1])
    seen = len({root.token_ids[:end] for root in roots for end in range(1, len(root.token_ids) + 1)})
    grown = await asyncio.gather(*(grow(engine, root, range(8)) for root in roots))
    costs = [branch.cost for branches in grown for branch in branches]
    assert same > 240
    assert sum(cost.prefilled for cost in costs) == seen, "prompts asked at once share their header"
    # Branches that say the same are computed once: 8 greedy ones make as many rows as one.
    engine.clear()
    greedy = await grow(engine, roots[0], range(8), Sampling(temperature=0, max_tokens=20))
    assert len({branch.tokens for branch in greedy}) == 1
    passes = sum(branch.cost.forward_passes for branch in greedy)
    assert passes == pytest.approx(1 + len(greedy[0].tokens) - 1)
    path = greedy[0].path.cut(7)
    assert (await grow(engine, path, (5, 6)))[0].cost.prefilled == 0


async def test_a_branch_that_breaks_takes_no_other_with_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, clean = make(), make()
    root = await ask(engine)
    wanted = await tokens(clean, root, range(6))
    extension = engine.extend(ExtendRequest(root, tuple(range(6)), HOT))
    for _ in range(9):
        await anext(extension)
    (victim,) = [branch for branch in engine._loop.batch.running if branch.copy == 3]
    monkeypatch.setattr(type(victim.text), "take", _fails_for(victim.text, type(victim.text).take))
    ends = {event.copy: event async for event in extension if isinstance(event, Ended | Broken)}
    assert [copy for copy, end in ends.items() if isinstance(end, Broken)] == [3]
    assert "broken on purpose" in str(ends[3].error)  # type: ignore[union-attr]
    monkeypatch.undo()
    assert await tokens(engine, root, range(6)) == wanted


def _fails_for(victim: object, take: Callable[..., str]) -> Callable[..., str]:
    def failing(self: object, final: bool) -> str:
        if self is victim:
            raise RuntimeError("broken on purpose")
        return take(self, final)

    return failing


async def test_cancelling_one_branch_leaves_the_others_as_they_are(make: Make) -> None:
    engine, keys = make(), range(8)
    root = await ask(engine)
    wanted = await tokens(engine, root, keys)
    for victim in keys:
        engine.clear()
        extension, heard = engine.extend(ExtendRequest(root, tuple(keys), HOT)), list[int]()

        def cancel(event: BranchEvent, victim: int = victim, heard: list[int] = heard) -> None:
            heard.append(event.copy)
            if heard.count(victim) == 3:
                extension.cancel(victim)  # noqa: B023

        grown = await hear(extension, root, keys, cancel)
        assert not grown[victim].finished
        assert grown[victim].cost.discarded == grown[victim].cost.sampled == len(grown[victim].tokens)
        assert grown[victim].tokens == wanted[victim][: len(grown[victim].tokens)]
        assert [branch.tokens for branch in grown if branch.finished] == wanted[:victim] + wanted[victim + 1 :]


async def test_a_failing_pass_breaks_what_took_part_and_the_engine_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    root = await ask(engine)
    wanted = await tokens(engine, root, (1, 2))
    engine.clear()
    step = engine._model.step

    def failing(*args: object, **kwargs: object) -> torch.Tensor:
        raise RuntimeError("out of order")

    monkeypatch.setattr(engine._model, "step", failing)
    broken = await grow(engine, root, (1, 2))
    assert all(isinstance(branch.end, Broken) for branch in broken)
    with pytest.raises(BackendError, match="out of order"):
        await engine.score(root, ["no"])
    monkeypatch.setattr(engine._model, "step", step)
    assert await tokens(engine, root, (1, 2)) == wanted


async def test_what_was_computed_for_a_cancelled_prompt_is_in_the_ledger(make: Make) -> None:
    engine = make(prefill_chunk=1)
    path = await ask(engine, "word " * 80)
    extension = engine.extend(ExtendRequest(path, (1, 2), HOT))
    await asyncio.sleep(0.1)
    extension.cancel(0)
    extension.cancel(1)
    costs = [event.cost async for event in extension if isinstance(event, Ended)]
    assert sum(cost.prefilled for cost in costs) > 0
    assert all(cost.prompt == cost.reused + cost.prefilled for cost in costs)
    assert sum(cost.sampled for cost in costs) == 0


async def test_eight_bit_weights_are_close_and_say_so(tiny_engine: Engine) -> None:
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
        root = await ask(exact)
        wanted, got = [(await engine.score(root, ["and so it is"])).logprobs[0] for engine in engines]
        assert got != wanted
        assert got == pytest.approx(wanted, abs=0.5)
    finally:
        for engine in engines:
            engine._loop.close()
