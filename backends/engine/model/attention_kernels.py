"""Attention kernels: plain attention over given keys, with the log-sum-exp by which partial results are merged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import SlotIndex


class PartialAttention(NamedTuple):
    """Attention over some of the keys."""

    out: Tensor  # [..., queries, value_dim]
    lse: Tensor  # [..., queries] log of the sum of exp(scores), float32 or better

    def merge(self, other: "PartialAttention") -> "PartialAttention":
        """Return attention over the keys of both."""
        share = torch.sigmoid(other.lse - self.lse)[..., None]
        out = torch.lerp(self.out.to(share.dtype), other.out.to(share.dtype), share)
        return PartialAttention(out, torch.logaddexp(self.lse, other.lse))


@dataclass(frozen=True, slots=True)
class AttentionParams:
    """Parameters of a layer's attention."""

    scale: float
    window: int | None = None  # tokens that a query attends to, itself included
    softcap: float | None = None
    sinks: Tensor | None = None  # [heads] logits that take a share of the softmax and add nothing to the output


KVReader = Callable[[SlotIndex], tuple[Tensor, Tensor]]
"""Return a layer's keys and values [tokens, kv_heads, head_dim] at some slots."""


def partial_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    params: AttentionParams,
    masked: Tensor | None = None,
    causal: bool = False,
) -> PartialAttention:
    """Return attention of query [batch, heads, queries, dim] over keys and values [batch, kv_heads, keys, ...].

    `masked`: True where a query does not attend to a key, broadcast to [batch, heads, queries, keys]. `causal`: nor
    does it attend to keys after its own.
    """
    if not _has_kernel(query, values, params):
        return _unfused(query, keys, values, params, masked, causal)
    bias = None if masked is None else query.new_zeros(masked.shape).masked_fill(masked, -torch.inf)
    return _fused(query, keys, values, params, bias, causal)


def biased_attention(
    query: Tensor, keys: Tensor, values: Tensor, params: AttentionParams, bias: Tensor | None
) -> PartialAttention:
    """Return the same, with a mask [batch, heads, queries, keys] that is added to the scores."""
    if _has_kernel(query, values, params):
        return _fused(query, keys, values, params, bias, causal=False)
    return _unfused(query, keys, values, params, None if bias is None else bias < 0, causal=False)


def _has_kernel(query: Tensor, values: Tensor, params: AttentionParams) -> bool:
    return query.device.type == "cpu" and params.softcap is None and query.shape[-1] == values.shape[-1]


def _fused(
    query: Tensor, keys: Tensor, values: Tensor, params: AttentionParams, bias: Tensor | None, causal: bool
) -> PartialAttention:
    """Return the same as `partial_attention`, by torch's kernel for a CPU."""
    shape = (query.shape[0], query.shape[1], query.shape[2], keys.shape[2])
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, causal, attn_mask=None if bias is None else bias.expand(shape), scale=params.scale
    )
    return PartialAttention(out, lse)


def _unfused(
    query: Tensor, keys: Tensor, values: Tensor, params: AttentionParams, masked: Tensor | None, causal: bool
) -> PartialAttention:
    """Return the same as `partial_attention` by plain matrix products, for every device and all parameters."""
    groups, queries = query.shape[1] // keys.shape[1], query.shape[2]
    folded = query.unflatten(1, (-1, groups)).flatten(2, 3)  # [batch, kv_heads, groups * queries, dim]
    products = folded @ keys.transpose(2, 3)
    scores = products.to(torch.promote_types(products.dtype, torch.float32)) * params.scale
    if params.softcap is not None:
        scores = params.softcap * torch.tanh(scores / params.softcap)
    scores = scores.unflatten(2, (groups, queries)).flatten(1, 2)  # [batch, heads, queries, keys]
    if causal:
        at = torch.arange(queries, device=query.device)
        masked = at > at[:, None]
    if masked is not None:
        scores = scores.masked_fill(masked, -torch.inf)
    lse = torch.logsumexp(scores, dim=-1)
    # A query that attends to nothing has lse = -inf; the clamp makes its weights 0 instead of NaN.
    weights = torch.exp(scores - lse[..., None].clamp(min=torch.finfo(lse.dtype).min)).to(values.dtype)
    folded = weights.unflatten(1, (-1, groups)).flatten(2, 3)
    return PartialAttention((folded @ values).unflatten(2, (groups, queries)).flatten(1, 2), lse)
