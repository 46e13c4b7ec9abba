"""Admission: priorities, and requests that do not fit into the cache together."""

import asyncio
from dataclasses import replace

import pytest

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.core.errors import BackendError
from tests.support.branches import SAMPLING, MakeEngine, collect, generate, generate_tokens, make_root

pytestmark = pytest.mark.usefixtures("one_thread")


async def test_a_small_cache_gives_the_same_tokens(make_tiny_engine: MakeEngine, small_engine: Engine) -> None:
    large = make_tiny_engine()
    for i in range(12):
        root = await make_root(large, f"What is {i} times 7, and is that what you want?")
        assert await generate_tokens(small_engine, root, (i, 50)) == await generate_tokens(large, root, (i, 50))
        assert small_engine._loop.tree.used <= small_engine._loop.tree.capacity


@pytest.mark.parametrize("copies", [1, 3])
async def test_branches_that_do_not_fit_together_are_preempted(
    make_tiny_engine: MakeEngine, small_engine: Engine, copies: int
) -> None:
    large, long = make_tiny_engine(), replace(SAMPLING, max_tokens=90)
    roots = [await make_root(large, f"What is {i} times 7?") for i in range(10)]
    expected = [await generate_tokens(large, root, range(i, i + copies), long) for i, root in enumerate(roots)]
    requests = (generate(small_engine, root, range(i, i + copies), long) for i, root in enumerate(roots))
    results = await asyncio.gather(*requests)
    assert [[branch.tokens for branch in branches] for branches in results] == expected
    costs = [branch.cost for branches in results for branch in branches]
    assert all(cost.prompt == cost.reused + cost.prefilled for cost in costs)
    assert sum(cost.prompt for cost in costs) > sum(len(root.token_ids) for root in roots) * copies, (
        "no branch was preempted"
    )
    assert sum(cost.discarded for cost in costs) == 0


async def test_long_prompts_that_do_not_fit_together_wait(make_tiny_engine: MakeEngine, small_engine: Engine) -> None:
    large = make_tiny_engine(prefill_chunk=16)
    roots = [await make_root(large, letter * 120) for letter in "abcd"]
    expected = [await generate_tokens(large, root, (i,)) for i, root in enumerate(roots)]
    requests = (generate_tokens(small_engine, root, (i,)) for i, root in enumerate(roots))
    assert await asyncio.gather(*requests) == expected


async def test_requests_start_by_priority_then_by_arrival(make_tiny_engine: MakeEngine, tiny_engine: Engine) -> None:
    engine, order = make_tiny_engine(max_batch=2), list[int]()
    root = await make_root(engine)

    async def one(key: int, priority: int) -> None:
        await collect(engine.extend(ExtendRequest(root, (key, key + 100), SAMPLING, priority)), root, (key, key + 100))
        order.append(key)

    await asyncio.gather(*(one(key, priority) for key, priority in ((1, 0), (2, 5), (3, 5), (4, 1))))
    assert order == [1, 4, 2, 3]


async def test_a_score_that_does_not_fit_fails_and_later_ones_are_right(
    make_tiny_engine: MakeEngine, small_engine: Engine
) -> None:
    path = await make_root(small_engine, "x" * 120)
    fits, too_much = ("y" * 10,), tuple(letter * 45 for letter in "abc")
    large = make_tiny_engine()
    expected = pytest.approx((await large.score(path, fits)).logprobs[0], abs=1e-5)
    assert (await small_engine.score(path, fits)).logprobs[0] == expected
    with pytest.raises(BackendError, match="memory"):
        await small_engine.score(path, too_much)
    assert (await small_engine.score(path, fits)).logprobs[0] == expected


async def test_scores_wait_for_branches_that_fill_the_cache(make_tiny_engine: MakeEngine, small_engine: Engine) -> None:
    path, large = await make_root(small_engine, "x" * 60), make_tiny_engine()
    expected = pytest.approx((await large.score(path, ("y" * 60,))).logprobs[0], abs=1e-5)
    generating = asyncio.create_task(generate(small_engine, path, (1, 2), replace(SAMPLING, max_tokens=60)))
    scores = await asyncio.gather(*(small_engine.score(path, ("y" * 60,)) for _ in range(3)))
    assert all(branch.finished for branch in await generating)
    assert all(score.logprobs[0] == expected for score in scores)
