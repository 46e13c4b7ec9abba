"""Partial attention over subsets of the keys, merged by log-sum-exp in float32.

Softmax over a union of key sets is the mean of the softmaxes over each, weighted by the sums of their exponentials (the
merge of FlashAttention, Dao et al. 2022, arXiv 2205.14135, section 3.1). So a prefix that many rows share is read once
for all of them, whatever else each row reads. The step's plan says which rows read which slots.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from branchwise.backends.engine.model.attention_kernels import (
    AttentionParams,
    KVReader,
    PartialAttention,
    partial_attention,
)
from branchwise.backends.engine.model.plan import DecodeReads, Plan, Segment, Span, Tails
from branchwise.backends.engine.model.tile_attention import attend_tiles


def attend(query: Tensor, plan: Plan, read: KVReader, params: AttentionParams) -> Tensor:
    """Return the attention of all rows of a packed step. query [heads, rows, head_dim] -> [rows, heads, value_dim]."""
    if plan.fixed_tiles:
        part = attend_tiles(query, plan, read, params)
        return _finish(part, query, params)
    outs = list(_outs(query, plan, read, params))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _outs(query: Tensor, plan: Plan, read: KVReader, params: AttentionParams) -> Iterator[Tensor]:
    count = plan.decode_rows
    if count:
        part = _decode(query[:, :count], read, plan.reads(params.window), params)
        yield _finish(PartialAttention(part.out.flatten(1, 2), part.lse.flatten(1, 2)), query, params)
    for span in plan.spans:
        part = _prefill(query[:, span.start : span.end], plan, read, span, params)
        yield _finish(PartialAttention(part.out.transpose(0, 1), part.lse.transpose(0, 1)), query, params)


def _finish(part: PartialAttention, query: Tensor, params: AttentionParams) -> Tensor:
    """Return [rows, heads, value_dim] in the query's dtype, scaled down by the share of the sinks."""
    out = part.out
    if params.sinks is not None:
        out = out * torch.sigmoid(part.lse - params.sinks.to(part.lse.dtype))[..., None]
    return out.to(query.dtype)


def _decode(query: Tensor, read: KVReader, reads: DecodeReads, params: AttentionParams) -> PartialAttention:
    """Attend with the decode rows. query [heads, rows, dim] -> [rows, kv_heads, groups, value_dim]."""
    parts = [_attend_tails(query, read, tails, params) for tails in reads.tails]
    part = parts[0]
    if reads.order is not None:
        outs, lses = zip(*parts, strict=True)
        part = PartialAttention(torch.cat(outs)[reads.order], torch.cat(lses)[reads.order])
    folded = query.unflatten(0, part.out.shape[1:3])  # [kv_heads, groups, rows, dim]
    for segment in reads.segments:
        shared = _attend_segment(folded, read, segment, params)
        if segment.rows is None:
            part = part.merge(shared)
        else:
            merged = PartialAttention(part.out[segment.rows], part.lse[segment.rows]).merge(shared)
            part = PartialAttention(
                part.out.to(merged.out.dtype).index_copy(0, segment.rows, merged.out),
                part.lse.index_copy(0, segment.rows, merged.lse),
            )
    return part


def _attend_segment(folded: Tensor, read: KVReader, segment: Segment, params: AttentionParams) -> PartialAttention:
    """Attend to a shared segment. folded [kv_heads, groups, rows, dim] -> [readers, kv_heads, groups, value_dim]."""
    keys, values = read(segment.index)
    queries = folded if segment.rows is None else folded.index_select(2, segment.rows)
    shape = queries.shape[1:3]
    masked = None if segment.masked is None else segment.masked.repeat(shape[0], 1)[None, None]
    keys, values = keys.transpose(0, 1)[None], values.transpose(0, 1)[None]
    part = partial_attention(queries.flatten(1, 2)[None], keys, values, params, masked)
    out = part.out[0].unflatten(1, shape).permute(2, 0, 1, 3)
    return PartialAttention(out, part.lse[0].unflatten(1, shape).permute(2, 0, 1))


def _attend_tails(query: Tensor, read: KVReader, tails: Tails, params: AttentionParams) -> PartialAttention:
    """Attend to the slots that sequences read alone. -> [sequences * width, kv_heads, groups, value_dim]."""
    keys, values = read(tails.index)
    queries = query if tails.rows is None else query.index_select(1, tails.rows)
    kv_heads, sequences = keys.shape[1], queries.shape[1] // tails.width
    # [sequences, kv_heads, groups, width, dim]
    folded = queries.unflatten(1, (sequences, -1)).unflatten(0, (kv_heads, -1)).permute(2, 0, 1, 3, 4)
    groups = folded.shape[2]
    part = partial_attention(
        folded.flatten(2, 3),
        keys.unflatten(0, (sequences, -1)).transpose(1, 2),
        values.unflatten(0, (sequences, -1)).transpose(1, 2),
        params,
        None if tails.masked is None else _repeat_for_groups(tails.masked, groups),
    )
    out, lse = part.out.unflatten(2, (groups, -1)), part.lse.unflatten(2, (groups, -1))
    return PartialAttention(out.permute(0, 3, 1, 2, 4).flatten(0, 1), lse.permute(0, 3, 1, 2).flatten(0, 1))


def _repeat_for_groups(masked: Tensor, groups: int) -> Tensor:
    """Return a mask [sequences, width, slots] for all heads of a group: [sequences, 1, groups * width or 1, slots]."""
    return (masked if masked.shape[1] == 1 else masked.repeat(1, groups, 1))[:, None]


def _prefill(query: Tensor, plan: Plan, read: KVReader, span: Span, params: AttentionParams) -> PartialAttention:
    """Attend with the rows of a span. query [heads, rows, dim] -> [heads, rows, value_dim]."""
    own = [t.transpose(0, 1) for t in read(span.own)]
    prefix = [] if span.prefix is None else [t.transpose(0, 1) for t in read(span.prefix)]
    past = prefix[0].shape[1] if prefix else 0
    if params.window is not None:
        plan.windows.add(params.window)
    if params.window is not None and past + span.rows > params.window:
        keys, values = (torch.cat(pair, dim=1) for pair in zip(prefix, own, strict=True)) if prefix else own
        at = torch.arange(past + span.rows, device=query.device)
        masked = (at > at[past:, None]) | (at <= at[past:, None] - params.window)
        part = partial_attention(query[None], keys[None], values[None], params, masked)
        return PartialAttention(part.out[0], part.lse[0])
    part = partial_attention(query[None], own[0][None], own[1][None], params, causal=True)
    if prefix:
        part = part.merge(partial_attention(query[None], prefix[0][None], prefix[1][None], params))
    return PartialAttention(part.out[0], part.lse[0])
