"""Attention in tiles of fixed size: the value of a row does not depend on the other rows of its step."""

import torch
from torch import Tensor

from branchwise.backends.engine.model.attention_kernels import (
    AttentionParams,
    KVReader,
    PartialAttention,
    biased_attention,
)
from branchwise.backends.engine.model.plan import Plan
from branchwise.backends.engine.model.tiles import BLOCK, Heads, TileGroup, Tiles

_ANY_SLOT = slice(0, 1)
_GATHERED = 8  # blocks whose results are gathered at once


def attend_tiles(query: Tensor, plan: Plan, read: KVReader, params: AttentionParams) -> PartialAttention:
    """Return the attention of all rows. query [heads, rows, head_dim] -> [rows, heads, value_dim]."""
    heads = Heads(query.shape[0], read(_ANY_SLOT)[0].shape[1])
    tiles = plan.tiles(params.window, heads, query.dtype)
    queries = query.reshape(-1, query.shape[-1])
    outs, lses = zip(*(_attend_group(queries, read, group, params) for group in tiles.groups), strict=True)
    part = _merge(PartialAttention(torch.cat(outs), torch.cat(lses)), tiles, has_sinks=params.sinks is not None)
    return PartialAttention(part.out.unflatten(0, (-1, len(query))), part.lse.unflatten(0, (-1, len(query))))


def _attend_group(queries: Tensor, read: KVReader, group: TileGroup, params: AttentionParams) -> tuple[Tensor, Tensor]:
    """Return the results of a group's queries: [queries, value_dim] and their log-sum-exps [queries]."""
    keys, values = (part.unflatten(0, (-1, BLOCK)).transpose(1, 2) for part in read(group.slots))
    query = queries.index_select(0, group.queries).view(*keys.shape[:2], -1, queries.shape[-1])
    part = biased_attention(query, keys, values, params, group.bias)
    return part.out.transpose(1, 2).flatten(0, 2), part.lse.transpose(1, 2).flatten()


def _merge(results: PartialAttention, tiles: Tiles, *, has_sinks: bool) -> PartialAttention:
    """Return the results of each row and head over all of its blocks, summed in order of position.

    The log-sum-exps are right only with `has_sinks`; nothing else reads them.
    """
    outs, lses = results
    if len(tiles.parts) == 1:
        return PartialAttention(outs[tiles.parts[0]], lses[tiles.parts[0]])
    # In float64, a weight does not depend on the order in which the processor sums the exponentials.
    scores = lses.double()[tiles.parts]
    if tiles.absent is not None:
        scores = scores.masked_fill_(tiles.absent, -torch.inf)
    weights = torch.softmax(scores, dim=0).to(torch.promote_types(outs.dtype, torch.float32))[..., None]
    total: Tensor | None = None
    for parts, part_weights in zip(tiles.parts.split(_GATHERED), weights.split(_GATHERED), strict=True):
        gathered = outs.index_select(0, parts.flatten()).to(weights.dtype).view(*parts.shape, -1)
        for out, weight in zip(gathered.unbind(), part_weights.unbind(), strict=True):
            total = out * weight if total is None else total.addcmul_(out, weight)
    assert total is not None
    return PartialAttention(total, torch.logsumexp(scores, dim=0) if has_sinks else scores[0])
