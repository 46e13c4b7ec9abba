"""Attention in tiles of fixed size computes what plain attention computes, and linear layers are measured right."""

import random
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from branchwise.backends.engine.cache.kv_pool import KVPool, slot_index
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.model import invariance
from branchwise.backends.engine.model.attention import attend
from branchwise.backends.engine.model.attention_kernels import AttentionParams, PartialAttention, biased_attention
from branchwise.backends.engine.model.invariance import attends_alike, make_rows_independent
from branchwise.backends.engine.model.plan import Plan, Span, _chains, _span_chain
from branchwise.backends.engine.model.step_builder import StepBuilder

HEADS, KEY_HEADS, SIZE = 4, 2, 32
_SLOTS = 4000


def _plan(seed: int, dtype: torch.dtype = torch.float64, prompt: int | None = None) -> Plan:
    """Return a step of branches of one long prompt, some with draft trees, and of two chunks of other prompts."""
    chance = random.Random(seed)
    pool = KVPool(_SLOTS, torch.device("cpu"))
    tree = RadixTree(pool.slots)
    torch.manual_seed(seed)
    pool.write(0, slice(0, _SLOTS + 1), *(part.to(dtype) for part in _random(2, _SLOTS + 1)))
    builder, root = StepBuilder(tree, pool), tree.pin(tree.match(()))

    def grow(cursor: Cursor, count: int, first: int) -> None:
        for token, slot in zip(range(first, first + count), tree.allocate(count) or (), strict=True):
            tree.advance(cursor, token, slot)

    grow(root, prompt or chance.choice((1, 63, 64, 200)), 0)
    branches = [tree.fork(root) for _ in range(5)]
    prompts = [tree.pin(tree.match(())) for _ in range(2)]
    for number, cursor in enumerate([*branches, *prompts]):
        grow(cursor, chance.choice((1, 30, 64, 130)), 1000 * (1 + number))
    for cursor in branches:
        parents = [-1, *(chance.randrange(row) for row in range(1, chance.choice((1, 1, 9))))]
        builder.add_sequence(cursor, [7] * len(parents), parents, tree.allocate(len(parents)) or ())
    for cursor in prompts:
        count = chance.choice((1, 5, 150))
        builder.add_span(cursor, range(count), tree.allocate(count) or ())
    return builder.plan()


def _random(count: int, tokens: int) -> list[Tensor]:
    return [torch.randn(KEY_HEADS, tokens, SIZE, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("seed", range(6))
def test_tiles_compute_what_segments_and_tails_do(seed: int, softcap: float | None) -> None:
    plan = _plan(seed)
    query = torch.randn(HEADS, _rows(plan), SIZE, dtype=torch.float64)
    sinks = torch.randn(HEADS, dtype=torch.float64) if seed % 2 else None
    params = AttentionParams(SIZE**-0.5, None, softcap, sinks)
    read = partial(plan.pool.read, 0)
    expected = attend(query, plan, read, params)
    plan.fixed_tiles = True
    torch.testing.assert_close(attend(query, plan, read, params), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window", [1, 64, 70, 5000])
@pytest.mark.parametrize("seed", range(4))
def test_a_window_hides_what_is_before_it(seed: int, window: int) -> None:
    plan = _plan(seed)
    plan.fixed_tiles = True
    query = torch.randn(HEADS, _rows(plan), SIZE, dtype=torch.float64)
    found = attend(query, plan, partial(plan.pool.read, 0), AttentionParams(SIZE**-0.5, window))
    keys, values = (
        part.repeat_interleave(HEADS // KEY_HEADS, dim=1) for part in plan.pool.read(0, slice(0, _SLOTS + 1))
    )
    for slots, rows, positions in (*_chains(plan.sequences), *map(_span_chain, plan.spans)):
        for row, position in zip(rows, positions, strict=True):
            seen = torch.from_numpy(slots[max(0, position + 1 - window) : position + 1])
            weights = torch.softmax(torch.einsum("hd,shd->hs", query[:, row], keys[seen]) * SIZE**-0.5, dim=1)
            torch.testing.assert_close(found[row], torch.einsum("hs,shd->hd", weights, values[seen]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize("seed", range(3))
def test_a_row_has_the_same_value_alone(seed: int, window: int | None, dtype: torch.dtype) -> None:
    plan = _plan(seed, dtype, (500, 1100, 1600)[seed])
    plan.fixed_tiles = True
    query, params = torch.randn(HEADS, _rows(plan), SIZE).to(dtype), AttentionParams(SIZE**-0.5, window)
    read = partial(plan.pool.read, 0)
    found = attend(query, plan, read, params)
    for slots, rows, positions in (*_chains(plan.sequences), *map(_span_chain, plan.spans)):
        for row, position in [*zip(rows, positions, strict=True)][:: max(1, len(rows) // 3)]:
            device = plan.pool.device
            prefix = slot_index(slots[:position], device) if position else None
            span = Span(0, 1, prefix, slot_index(slots[position : position + 1], device))
            alone = Plan(plan.pool, slice(0, 1), spans=[span], fixed_tiles=True)
            assert torch.equal(attend(query[:, row : row + 1].contiguous(), alone, read, params)[0], found[row])


def _rows(plan: Plan) -> int:
    return plan.decode_rows + sum(span.rows for span in plan.spans)


class _Layer(nn.Module):
    """A linear layer that rounds otherwise with fewer than `fewest` rows."""

    def __init__(self, fewest: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.fewest = 8, 1, fewest
        self.weight = nn.Parameter(torch.zeros(1, 8))

    def forward(self, rows: Tensor) -> Tensor:
        return rows.sum(dim=-1, keepdim=True) + (rows.numel() // self.in_features < self.fewest)


@pytest.mark.parametrize(("fewest", "alike"), [(0, True), (2, True), (4, True), (5, False), (17, False), (33, False)])
def test_layers_that_round_by_the_number_of_rows_are_padded(fewest: int, alike: bool) -> None:
    network, rows = nn.Sequential(nn.Identity(), _Layer(fewest)), torch.randn(1, 40, 8)
    assert make_rows_independent(network) is alike
    singly = torch.cat([network(rows[:, at : at + 1]) for at in range(40)], dim=1)
    assert torch.equal(singly, network(rows)) is alike


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_that_rounds_by_what_is_computed_together_is_found(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    assert attends_alike(SIZE, dtype)

    def change(fewest_queries: int, fewest_keys: int) -> None:
        def attend_otherwise(
            query: Tensor, keys: Tensor, values: Tensor, params: AttentionParams, bias: Tensor | None
        ) -> PartialAttention:
            part = biased_attention(query, keys, values, params, bias)
            return part._replace(lse=part.lse + (query.shape[2] < fewest_queries or keys.shape[2] < fewest_keys))

        monkeypatch.setattr(invariance, "biased_attention", attend_otherwise)

    for fewest_queries, fewest_keys in ((5, 0), (0, 20), (200, 0)):
        change(fewest_queries, fewest_keys)
        assert not attends_alike(SIZE, dtype)
    change(4, 16)
    assert attends_alike(SIZE, dtype)
