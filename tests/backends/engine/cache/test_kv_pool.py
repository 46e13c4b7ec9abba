"""Slots of the KV pool, in a running engine."""

import asyncio

import pytest
import torch

from branchwise.backends.engine.cache.kv_pool import KVPool, SlotIndex
from branchwise.core.path import Path
from tests.support.branches import MakeEngine, generate_tokens, make_root, nodes_of

pytestmark = pytest.mark.usefixtures("one_thread")


async def test_clearing_an_idle_engine_empties_the_tree(make_tiny_engine: MakeEngine) -> None:
    engine = make_tiny_engine(prefill_chunk=5, max_batch=3)
    roots = [await make_root(engine, question) for question in ("One?", "One? Two?", "Three?")]
    await asyncio.gather(
        *(generate_tokens(engine, root, range(6)) for root in roots), engine.score(roots[0], ["ab", "ac"])
    )
    assert engine._loop.tree.used > 0
    engine.clear()
    await engine.close()
    assert engine._loop.tree.used == 0
    assert not engine._loop.tree.root.children


async def test_no_slot_is_read_before_it_is_written(make_tiny_engine: MakeEngine) -> None:
    """Fill the pool with NaN, which one read of an unwritten slot spreads to all later tokens."""
    engine, clean = make_tiny_engine(prefill_chunk=7), make_tiny_engine()
    warm = await make_root(engine, "warm")
    await generate_tokens(engine, warm, (1,))  # reserves the pools
    engine.clear()
    pool = engine._loop.pool
    assert pool.hidden is not None
    with torch.inference_mode():
        for layer in (*pool.keys.values(), *pool.values.values(), pool.hidden):
            layer[1:] = torch.nan
    roots = [await make_root(engine, question) for question in ("One?", "One? Two?", "Three? " * 9)]
    expected = [await generate_tokens(clean, root, range(6)) for root in roots]
    assert await asyncio.gather(*(generate_tokens(engine, root, range(6)) for root in roots)) == expected


async def test_cached_slots_are_never_overwritten(
    make_tiny_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Require that a later pass, which may round differently, does not change what running branches read."""
    engine, write, overwritten = make_tiny_engine(prefill_chunk=7), KVPool.write, list[int]()

    def watched(pool: KVPool, layer: int, index: SlotIndex, keys: torch.Tensor, values: torch.Tensor) -> None:
        slots = range(index.start, index.stop) if isinstance(index, slice) else index.tolist()
        cached = {slot for node in nodes_of(engine._loop.tree) for slot in node.slots}
        overwritten.extend(slot for slot in slots if slot in cached)
        write(pool, layer, index, keys, values)

    monkeypatch.setattr(KVPool, "write", watched)
    root = await make_root(engine)
    part = Path(None, 1, root.token_ids[:-3], "", messages=root.messages)
    for _ in range(2):
        await asyncio.gather(
            generate_tokens(engine, root, (1, 2, 3)),
            generate_tokens(engine, root, (1,)),
            generate_tokens(engine, part, (1, 2)),
        )
    assert not overwritten
