"""Everything that touches transformers' internals: the attention function and the cache it is given.

Every attention layer calls `past_key_values.update(keys, values, layer)` and then the registered
attention function. Here `update` writes the pools and passes the new keys through, and the attention
function reads what the step's plan says. A change of transformers' version touches only this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from branchwise.backends.engine.store import Store

# Names that hold "flash", "sdpa", "flex_attention", "paged|" or "/" are treated specially by transformers.
ATTENTION = "branchwise_tree"


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one prefilling request in the packed step, and the slots it reads."""

    start: int
    end: int
    slots: Tensor  # [past + end - start]


@dataclass(slots=True)
class Plan:
    """Who reads what in one packed step: first `decoding` rows of one token each, then spans."""

    store: Store
    written: Tensor  # [rows] the slot of each row's token
    decoding: int
    table: Tensor  # [decoding, longest] slots each decoding row reads, padded with 0
    lengths: Tensor  # [decoding]
    spans: Sequence[Span]
    layer: int = -1  # set by the cache just before the attention function is called
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def hidden_keys(self, window: int | None) -> Tensor:
        """[decoding, 1, 1, longest] True where a decoding row must not look."""
        if window not in self._masks:
            at = torch.arange(self.table.shape[1], device=self.table.device)
            hidden = at >= self.lengths[:, None]
            if window is not None:
                hidden |= at < self.lengths[:, None] - window
            self._masks[window] = hidden[:, None, None, :]
        return self._masks[window]

    @property
    def windowed(self) -> bool:
        """Whether any layer asked for a sliding window so far."""
        return any(window is not None for window in self._masks)


class PoolCache(Cache):
    """The cache transformers sees: it writes the pools and hands the new keys and values through."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(layers=[])
        self.plan = plan

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        self.plan.store.write(layer_idx, self.plan.written, key_states[0], value_states[0])
        self.plan.layer = layer_idx
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    plan: Plan | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention over the pools as `plan` says. query [1, heads, rows, head_dim] -> [1, rows, heads, head_dim]."""
    assert plan is not None
    keys, values = plan.store.keys[plan.layer], plan.store.values[plan.layer]
    heads, rows, dim = query.shape[1:]
    groups = heads // keys.shape[0]
    scale = dim**-0.5 if scaling is None else scaling
    rule = _Scores(scale, softcap, s_aux, groups)
    out = query.new_empty(rows, heads, values.shape[2])
    if plan.decoding:
        out[: plan.decoding] = _decode(query[0, :, : plan.decoding], keys, values, plan, sliding_window, rule)
    for span in plan.spans:
        out[span.start : span.end] = _prefill(
            query[0, :, span.start : span.end], keys, values, span, sliding_window, rule
        )
    return out[None], None


@dataclass(frozen=True, slots=True)
class _Scores:
    """How a model turns products of queries and keys into weights."""

    scale: float
    softcap: float | None
    sinks: Tensor | None  # [heads] a logit that takes weight and gives nothing
    groups: int

    def weights(self, products: Tensor, hidden: Tensor) -> Tensor:
        """Softmax in float32 (or better) of [..., kv_heads, groups or folded rows, keys]."""
        scores = products.to(torch.promote_types(products.dtype, torch.float32)) * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        scores = scores.masked_fill(hidden, -torch.inf)
        if self.sinks is None:
            return torch.softmax(scores, dim=-1).to(products.dtype)
        sinks = self.sinks.to(scores.dtype).view(-1, self.groups)
        sinks = sinks.repeat_interleave(scores.shape[-2] // self.groups, dim=1)[..., None]
        sinks = sinks.expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1].to(products.dtype)


def _decode(query: Tensor, keys: Tensor, values: Tensor, plan: Plan, window: int | None, rule: _Scores) -> Tensor:
    """One query token per row. query [heads, rows, dim] -> [rows, heads, value_dim]."""
    heads, rows, dim = query.shape
    kv_heads, longest = keys.shape[0], plan.table.shape[1]
    flat = plan.table.flatten()
    held_k = keys.index_select(1, flat).view(kv_heads, rows, longest, dim)
    held_v = values.index_select(1, flat).view(kv_heads, rows, longest, -1)
    folded = query.view(kv_heads, rule.groups, rows, dim).transpose(1, 2)  # [kv_heads, rows, groups, dim]
    products = (folded @ held_k.transpose(2, 3)).transpose(0, 1)  # [rows, kv_heads, groups, longest]
    weights = rule.weights(products, plan.hidden_keys(window)).transpose(0, 1)
    return (weights @ held_v).transpose(0, 1).reshape(rows, heads, -1)


def _prefill(query: Tensor, keys: Tensor, values: Tensor, span: Span, window: int | None, rule: _Scores) -> Tensor:
    """Consecutive query tokens of one request. query [heads, rows, dim] -> [rows, heads, value_dim]."""
    heads, rows, dim = query.shape
    kv_heads, total = keys.shape[0], span.slots.shape[0]
    held_k, held_v = keys.index_select(1, span.slots), values.index_select(1, span.slots)
    folded = query.reshape(kv_heads, rule.groups * rows, dim)
    products = folded @ held_k.transpose(1, 2)  # [kv_heads, groups * rows, total]
    at = torch.arange(total, device=query.device)
    own = torch.arange(total - rows, total, device=query.device)[:, None]
    hidden = at > own
    if window is not None:
        hidden |= at <= own - window
    weights = rule.weights(products, hidden.repeat(rule.groups, 1))
    out = (weights @ held_v).view(kv_heads, rule.groups, rows, -1)
    return out.permute(2, 0, 1, 3).reshape(rows, heads, -1)


AttentionInterface.register(ATTENTION, tree_attention)
