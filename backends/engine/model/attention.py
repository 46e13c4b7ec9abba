"""Attention in parts: each part over some of the keys, merged by their log-sum-exp in float32.

Softmax over a union of key sets is the mean of the softmaxes over each, weighted by the sums of their
exponentials (the merge of FlashAttention, Dao et al. 2022, arXiv 2205.14135, section 3.1). So keys that
many rows share are read once for all of them, whatever else each row reads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import Index
from branchwise.backends.engine.model.plan import Plan, Reads, Span, Tails


class Part(NamedTuple):
    """Attention over some of the keys."""

    out: Tensor  # [..., queries, value_dim]
    lse: Tensor  # [..., queries] log of the sum of exp(scores), float32 or better

    def merge(self, other: "Part") -> "Part":
        """Attention over the keys of both."""
        share = torch.sigmoid(other.lse - self.lse)[..., None]
        out = torch.lerp(self.out.to(share.dtype), other.out.to(share.dtype), share)
        return Part(out, torch.logaddexp(self.lse, other.lse))


@dataclass(frozen=True, slots=True)
class Rule:
    """How a layer turns products of queries and keys into weights."""

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None  # [heads] a logit that takes weight and gives nothing


Read = Callable[[Index], tuple[Tensor, Tensor]]
"""Keys and values [tokens, kv_heads, head_dim] of the layer at some slots."""


def attend(query: Tensor, plan: Plan, read: Read, rule: Rule) -> Tensor:
    """Attention of every row of a packed step. query [heads, rows, head_dim] -> [rows, heads, value_dim]."""
    outs = list(_outs(query, plan, read, rule))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _outs(query: Tensor, plan: Plan, read: Read, rule: Rule) -> Iterator[Tensor]:
    count = plan.decoding
    if count:
        part = _decode(query[:, :count], read, plan.reads(rule.window), rule)
        yield _finish(Part(part.out.flatten(1, 2), part.lse.flatten(1, 2)), query, rule)
    for span in plan.spans:
        part = _prefill(query[:, span.start : span.end], plan, read, span, rule)
        yield _finish(Part(part.out.transpose(0, 1), part.lse.transpose(0, 1)), query, rule)


def _finish(part: Part, query: Tensor, rule: Rule) -> Tensor:
    """[rows, heads, value_dim]; a sink takes its share of the weight."""
    out = part.out
    if rule.sinks is not None:
        out = out * torch.sigmoid(part.lse - rule.sinks.to(part.lse.dtype))[..., None]
    return out.to(query.dtype)


def _decode(query: Tensor, read: Read, reads: Reads, rule: Rule) -> Part:
    """One token per row. query [heads, rows, dim] -> [rows, kv_heads, groups, value_dim]."""
    parts = [_tails(query, read, tails, rule) for tails in reads.tails]
    part = parts[0]
    if reads.order is not None:
        outs, lses = zip(*parts, strict=True)
        part = Part(torch.cat(outs)[reads.order], torch.cat(lses)[reads.order])
    folded = query.unflatten(0, part.out.shape[1:3])  # [kv_heads, groups, rows, dim]
    for segment in reads.segments:
        keys, values = read(segment.index)
        asking = folded if segment.rows is None else folded.index_select(2, segment.rows)
        shape = asking.shape[1:3]
        hidden = None if segment.hidden is None else segment.hidden.repeat(shape[0], 1)[None, None]
        seen = _part(asking.flatten(1, 2)[None], keys.transpose(0, 1)[None], values.transpose(0, 1)[None], rule, hidden)
        out = seen.out[0].unflatten(1, shape).permute(2, 0, 1, 3)
        shared = Part(out, seen.lse[0].unflatten(1, shape).permute(2, 0, 1))
        if segment.rows is None:
            part = part.merge(shared)
        else:
            merged = Part(part.out[segment.rows], part.lse[segment.rows]).merge(shared)
            part = Part(
                part.out.to(merged.out.dtype).index_copy(0, segment.rows, merged.out),
                part.lse.index_copy(0, segment.rows, merged.lse),
            )
    return part


def _tails(query: Tensor, read: Read, tails: Tails, rule: Rule) -> Part:
    """What some tips read each for itself. -> [some * widest, kv_heads, groups, value_dim]."""
    keys, values = read(tails.index)
    asking = query if tails.rows is None else query.index_select(1, tails.rows)
    kv_heads, tips = keys.shape[1], asking.shape[1] // tails.widest
    # [tips, kv_heads, groups, widest, dim]
    folded = asking.unflatten(1, (tips, -1)).unflatten(0, (kv_heads, -1)).permute(2, 0, 1, 3, 4)
    groups = folded.shape[2]
    part = _part(
        folded.flatten(2, 3),
        keys.unflatten(0, (tips, -1)).transpose(1, 2),
        values.unflatten(0, (tips, -1)).transpose(1, 2),
        rule,
        None if tails.hidden is None else _for_groups(tails.hidden, groups),
    )
    out, lse = part.out.unflatten(2, (groups, -1)), part.lse.unflatten(2, (groups, -1))
    return Part(out.permute(0, 3, 1, 2, 4).flatten(0, 1), lse.permute(0, 3, 1, 2).flatten(0, 1))


def _for_groups(hidden: Tensor, groups: int) -> Tensor:
    """[tips, widest, slots] for the queries of all heads of a group, [tips, 1, groups * widest or 1, slots]."""
    return (hidden if hidden.shape[1] == 1 else hidden.repeat(1, groups, 1))[:, None]


def _prefill(query: Tensor, plan: Plan, read: Read, span: Span, rule: Rule) -> Part:
    """Consecutive tokens of one prompt. query [heads, rows, dim] -> [heads, rows, value_dim]."""
    own = [t.transpose(0, 1) for t in read(span.own)]
    before = [] if span.before is None else [t.transpose(0, 1) for t in read(span.before)]
    past = before[0].shape[1] if before else 0
    if rule.window is not None:
        plan.windows.add(rule.window)
    if rule.window is not None and past + span.rows > rule.window:
        keys, values = (torch.cat(pair, dim=1) for pair in zip(before, own, strict=True)) if before else own
        at = torch.arange(past + span.rows, device=query.device)
        hidden = (at > at[past:, None]) | (at <= at[past:, None] - rule.window)
        part = _part(query[None], keys[None], values[None], rule, hidden)
        return Part(part.out[0], part.lse[0])
    part = _part(query[None], own[0][None], own[1][None], rule, causal=True)
    if before:
        part = part.merge(_part(query[None], before[0][None], before[1][None], rule))
    return Part(part.out[0], part.lse[0])


def _part(
    query: Tensor, keys: Tensor, values: Tensor, rule: Rule, hidden: Tensor | None = None, causal: bool = False
) -> Part:
    """Attention of query [batch, heads, queries, dim] over keys and values [batch, kv_heads, keys, ...]; not where
    `hidden` (broadcast to [batch, heads, queries, keys]), nor, if `causal`, to keys after the query's own."""
    if query.device.type == "cpu" and rule.softcap is None and query.shape[-1] == values.shape[-1]:
        mask = None
        if hidden is not None:
            shape = (query.shape[0], query.shape[1], query.shape[2], keys.shape[2])
            mask = query.new_zeros(hidden.shape).masked_fill(hidden, -torch.inf).expand(shape)
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, 0.0, causal, attn_mask=mask, scale=rule.scale
        )
        return Part(out, lse)
    return _plain_part(query, keys, values, rule, hidden, causal)


def _plain_part(query: Tensor, keys: Tensor, values: Tensor, rule: Rule, hidden: Tensor | None, causal: bool) -> Part:
    """The same in plain products, for every device and rule."""
    groups, queries = query.shape[1] // keys.shape[1], query.shape[2]
    folded = query.unflatten(1, (-1, groups)).flatten(2, 3)  # [batch, kv_heads, groups * queries, dim]
    products = folded @ keys.transpose(2, 3)
    scores = products.to(torch.promote_types(products.dtype, torch.float32)) * rule.scale
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    scores = scores.unflatten(2, (groups, queries)).flatten(1, 2)  # [batch, heads, queries, keys]
    if causal:
        at = torch.arange(queries, device=query.device)
        hidden = at > at[:, None]
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    lse = torch.logsumexp(scores, dim=-1)
    # Where a query sees nothing, the sum is 0 and its logarithm -inf: no weight, instead of no number.
    weights = torch.exp(scores - lse[..., None].clamp(min=torch.finfo(lse.dtype).min)).to(values.dtype)
    folded = weights.unflatten(1, (-1, groups)).flatten(2, 3)
    return Part((folded @ values).unflatten(2, (groups, queries)).flatten(1, 2), lse)
