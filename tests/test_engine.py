"""The engine at work: keyed tokens whatever runs beside, paths resumed step by step, small memories.

Strict comparisons run in float64 on tiny random models, where rounding never decides a token.
"""

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.extension import Ended
from branchwise.driver.grow import Grown, Growth
from branchwise.errors import BackendError
from branchwise.messages import as_messages
from branchwise.path import Path, StopReason
from branchwise.prompts.thinking import Thinking
from branchwise.sampling import Sampling

HOT = Sampling(temperature=1.0, max_tokens=24)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On tensors this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


Make = Callable[..., Engine]


@pytest.fixture
def make(tiny_engine: Engine) -> Iterator[Make]:
    """Engines over the tiny model with settings of their own, closed when the test is over."""
    made: list[Engine] = []

    def build(**settings: int) -> Engine:
        shared = tiny_engine._model.network
        network = type(shared)(copy.deepcopy(shared.config)).double()
        network.load_state_dict(shared.state_dict())
        settings = {"memory": 1 << 24, **settings}
        made.append(Engine(network, tiny_engine._tokenizer, name="tiny", settings=EngineSettings(**settings)))
        return made[-1]

    yield build
    for engine in made:
        engine._loop.close()


async def grow(backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = HOT) -> list[Grown]:
    """The branches of one request, in order."""
    grown: dict[int, Grown] = {}
    async with asyncio.timeout(60):
        growth = Growth(backend, path, keys, sampling, Thinking())
        await growth.run(lambda *_: None, grown.__setitem__)
    return [grown[copy] for copy in range(len(keys))]


async def tokens(backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = HOT) -> list[tuple[int, ...]]:
    return [branch.path.token_ids for branch in await grow(backend, path, keys, sampling)]


async def ask(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    return await backend.root(as_messages(question), key=1)


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
    growth = Growth(engine, full, (1, 2), HOT, Thinking())
    growth.cancel(0)
    ended: list[Grown] = []
    await growth.run(lambda *_: None, lambda _, grown: ended.append(grown))
    assert [(g.path.stop_reason, g.path.token_ids) for g in ended] == [(StopReason.LENGTH, ())] * 2


SMALL = 200  # tokens a small engine holds


@pytest.fixture
def small(make: Make, tiny_engine: Engine) -> Engine:
    engine = make(memory=SMALL * tiny_engine._model.token_bytes())
    assert engine.capabilities.context == engine._loop.store.limit == SMALL
    return engine


async def test_a_small_memory_gives_the_same_tokens_again_and_again(make: Make, small: Engine) -> None:
    large = make()
    for i in range(12):
        root = await ask(large, f"What is {i} times 7, and is that what you want?")
        assert await tokens(small, root, (i, 50)) == await tokens(large, root, (i, 50))
        assert small._loop.store.held <= SMALL


async def test_requests_that_do_not_fit_at_once_are_told_and_none_hangs(make: Make, small: Engine) -> None:
    large = make()
    roots = [await ask(large, f"What is {i} times 7?") for i in range(10)]
    wanted = [await tokens(large, root, (i,), replace(HOT, max_tokens=60)) for i, root in enumerate(roots)]
    grown = await asyncio.gather(
        *(grow(small, root, (i,), replace(HOT, max_tokens=60)) for i, root in enumerate(roots))
    )
    finished = [i for i, (branch,) in enumerate(grown) if branch.finished]
    assert finished
    for i, (branch,) in enumerate(grown):
        if i in finished:
            assert branch.path.token_ids == wanted[i][0]
        else:
            assert isinstance(branch.error, BackendError)
            assert branch.error.retryable
            assert "memory" in str(branch.error)
            assert branch.cost.discarded == branch.cost.sampled
    for i, root in enumerate(roots):  # each of them fits alone
        assert await tokens(small, root, (i,), replace(HOT, max_tokens=60)) == wanted[i]


async def test_a_score_that_does_not_fit_is_told_and_never_reads_what_was_evicted(make: Make, small: Engine) -> None:
    path = await ask(small, "x" * 120)
    fits, too_much = ("y" * 10,), tuple(letter * 45 for letter in "abc")
    large = make()
    wanted = pytest.approx((await large.score(path, fits)).logprobs[0], abs=1e-5)
    assert (await small.score(path, fits)).logprobs[0] == wanted
    with pytest.raises(BackendError, match="memory"):
        await small.score(path, too_much)
    assert (await small.score(path, fits)).logprobs[0] == wanted


async def test_nothing_is_held_once_all_is_dropped(make: Make) -> None:
    engine = make(prefill_chunk=5, max_batch=3)
    roots = [await ask(engine, question) for question in ("One?", "One? Two?", "Three?")]
    await asyncio.gather(*(tokens(engine, root, range(6)) for root in roots), engine.score(roots[0], ["ab", "ac"]))
    assert engine._loop.store.held > 0
    engine.clear()
    await engine.close()
    assert engine._loop.store.held == 0
    assert not engine._loop.store.root.children


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
