"""Attention in tiles of fixed size: the value of a row does not depend on the other rows of its step."""

from collections.abc import Iterator

import torch
from torch import Tensor

from branchwise.backends.engine.model.attention_kernels import (
    AttentionParams,
    KVReader,
    PartialAttention,
    biased_attention,
)
from branchwise.backends.engine.model.plan import Plan
from branchwise.backends.engine.model.tiles import Heads, Parts, Tiles

_ANY_SLOT = slice(0, 1)
_SUM = 0  # mode of `embedding_bag`, which adds up the rows of a bag one after the other


def attend_tiles(query: Tensor, plan: Plan, read: KVReader, params: AttentionParams) -> PartialAttention:
    """Return the attention of all rows. query [heads, rows, head_dim] -> [rows, heads, value_dim]."""
    heads = Heads(query.shape[0], read(_ANY_SLOT)[0].shape[1])
    tiles = plan.tiles(params.window, heads, query.dtype)
    results = [*_attend_groups(query.reshape(-1, query.shape[-1]), read, tiles, heads.keys, params)]
    outs, lses = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*results, strict=True))
    part = _merge(PartialAttention(outs, lses), tiles.parts, has_sinks=params.sinks is not None)
    return PartialAttention(part.out.unflatten(0, (-1, len(query))), part.lse.unflatten(0, (-1, len(query))))


def _attend_groups(
    queries: Tensor, read: KVReader, tiles: Tiles, heads: int, params: AttentionParams
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the results of each group's queries: [queries, value_dim] and their log-sum-exps [queries]."""
    queries = queries.index_select(0, tiles.queries)
    sizes = [group.blocks * heads * group.queries for group in tiles.groups]
    for group, query in zip(tiles.groups, queries.split(sizes), strict=True):
        keys, values = (part.view(group.blocks, -1, *part.shape[1:]).transpose(1, 2) for part in read(group.slots))
        query = query.view(group.blocks, group.queries, heads, -1).transpose(1, 2)
        part = biased_attention(query, keys, values, params, group.bias)
        yield part.out.transpose(1, 2).flatten(0, 2), part.lse.transpose(1, 2).flatten()


def _merge(results: PartialAttention, parts: Parts, *, has_sinks: bool) -> PartialAttention:
    """Return the results of each row and head over all of its blocks, summed in order of position.

    The log-sum-exps are right only with `has_sinks`; nothing else reads them.
    """
    outs, lses = results
    index = parts.blocks.flatten()
    if parts.blocks.shape[1] == 1:
        return PartialAttention(outs.index_select(0, index), lses.index_select(0, index))
    # In float64, a weight does not depend on the order in which the processor sums the exponentials.
    scores = lses.index_select(0, index).view(parts.blocks.shape).t().double()
    if parts.absent is not None:
        scores = scores.masked_fill_(parts.absent, -torch.inf)
    wide = outs.to(torch.promote_types(outs.dtype, torch.float32))
    weights = torch.softmax(scores, dim=0).t().to(wide.dtype, memory_format=torch.contiguous_format)
    total = torch.embedding_bag(
        wide,
        index,
        parts.starts,
        scale_grad_by_freq=False,
        mode=_SUM,
        sparse=False,
        per_sample_weights=weights.flatten(),
    )[0]
    return PartialAttention(total, torch.logsumexp(scores, dim=0) if has_sinks else scores[0])
