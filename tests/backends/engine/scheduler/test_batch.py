"""The batch computes common prefixes and equal branches once."""

import asyncio

import pytest

from branchwise.core.sampling import Sampling
from tests.support.branches import MakeEngine, generate, make_root

pytestmark = pytest.mark.usefixtures("one_thread")


async def test_common_prefixes_and_equal_branches_are_computed_once(make_tiny_engine: MakeEngine) -> None:
    engine, header = make_tiny_engine(), "An example of what is wanted. " * 8
    roots = [await make_root(engine, f"{header}{i} + {i}?") for i in range(4)]
    same = len([1 for column in zip(*(root.token_ids for root in roots), strict=False) if len(set(column)) == 1])
    seen = len({root.token_ids[:end] for root in roots for end in range(1, len(root.token_ids) + 1)})
    results = await asyncio.gather(*(generate(engine, root, range(8)) for root in roots))
    costs = [branch.cost for branches in results for branch in branches]
    assert same > 240
    assert sum(cost.prefilled for cost in costs) == seen, "prompts of one moment share their header"
    # Branches with equal tokens are computed once: 8 greedy ones need as many rows as one.
    engine.clear()
    greedy = await generate(engine, roots[0], range(8), Sampling(temperature=0, max_tokens=20))
    assert len({branch.tokens for branch in greedy}) == 1
    passes = sum(branch.cost.forward_passes for branch in greedy)
    assert passes == pytest.approx(1 + len(greedy[0].tokens) - 1)
    path = greedy[0].path.cut(7)
    assert (await generate(engine, path, (5, 6)))[0].cost.prefilled == 0
