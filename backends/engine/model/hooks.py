"""Everything that touches transformers' internals: the attention function and the caches it is given.

Every attention layer calls the cache's `update(keys, values, layer)` and then the registered attention
function. Here `update` writes the pools and passes the new keys through, and the attention
function reads what the step's plan says. Recurrent layers keep their states in the cache; here they are
put in and taken out. A change of transformers' version touches only this file.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, LinearAttentionCacheLayerMixin
from transformers.models.xlstm.configuration_xlstm import xLSTMConfig
from transformers.models.xlstm.modeling_xlstm import xLSTMCache

from branchwise.backends.engine.cache.kv_pool import Index
from branchwise.backends.engine.model.attention import Rule, attend
from branchwise.backends.engine.model.plan import Plan

# Names that hold "flash", "sdpa", "flex_attention", "paged|" or "/" are treated specially by transformers.
ATTENTION = "branchwise_tree"


class PoolCache(Cache):
    """The cache of a model of attention layers only: it writes the pools and hands the new keys and values through."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(layers=[])
        self.plan = plan

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return _write(self.plan, key_states, value_states, layer_idx)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


class StateCache(DynamicCache):
    """The cache of a model with recurrent layers: it holds their states; attention layers use the pools."""

    def __init__(self, network: PreTrainedModel, plan: Plan, states: Sequence[Tensor] | None, rows: int) -> None:
        """`states`: as `tensors` gave them; None at the start of a path. They are overwritten."""
        super().__init__(config=network.config)
        self.plan = plan
        if states is not None:
            left = iter(states)
            for layer in self._recurrent():
                for place in range(layer.number_of_states):
                    _put_state(layer, place, next(left), next(left))

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return _write(self.plan, key_states, value_states, layer_idx)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def tensors(self) -> list[Tensor]:
        """The states of every recurrent layer, [rows, ...] each; one that a layer has not is [rows, 0]."""
        found: list[Tensor] = []
        for layer in self._recurrent():
            for place in range(layer.number_of_states):
                pair = layer.conv_states[place], layer.recurrent_states[place]
                some = next(state for state in pair if state is not None)
                found.extend(some.new_empty(some.shape[0], 0) if state is None else state for state in pair)
        return found

    def _recurrent(self) -> list[LinearAttentionCacheLayerMixin]:
        return [layer for layer in self.layers if isinstance(layer, LinearAttentionCacheLayerMixin)]


class MatrixStateCache(xLSTMCache):
    """xLSTM's own cache, in float32 whatever the model's type: its sums grow over the whole path."""

    def __init__(self, network: PreTrainedModel, plan: Plan, states: Sequence[Tensor] | None, rows: int) -> None:
        assert isinstance(network.config, xLSTMConfig)
        super().__init__(network.config, rows, dtype=torch.float32, device=str(network.device))
        if states is not None:
            left = iter(states)
            self.rnn_state = {layer: (next(left), next(left), next(left)) for layer in self.rnn_state}

    def tensors(self) -> list[Tensor]:
        return [state for held in self.rnn_state.values() for state in held]


def state_cache(network: PreTrainedModel) -> type[StateCache] | type[MatrixStateCache] | None:
    """The cache for a network's recurrent layers; None where it has none."""
    if network.config.model_type == "xlstm":
        return MatrixStateCache
    try:
        layers = DynamicCache(config=network.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return StateCache if any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers) else None


def cache_name(network: PreTrainedModel) -> str:
    """The argument a network takes its cache by: transformers 5.24 gave it one name for all architectures."""
    accepted = inspect.signature(network.forward).parameters
    return next(name for name in ("cache", "past_key_values", "cache_params") if name in accepted)


def _put_state(layer: LinearAttentionCacheLayerMixin, place: int, conv: Tensor, recurrent: Tensor) -> None:
    if conv.numel():
        layer.conv_states[place] = conv
        layer.conv_kernel_size[place] = conv.shape[-1]
        layer.is_conv_states_initialized[place] = True
    if recurrent.numel():
        layer.recurrent_states[place] = recurrent
        layer.is_recurrent_states_initialized[place] = True
    layer.has_previous_state[place] = True


def _write(plan: Plan, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values [batch, kv_heads, tokens, head_dim] go to the pools, row after row."""
    plan.pool.write(layer, plan.written, keys.transpose(0, 1).flatten(1, 2), values.transpose(0, 1).flatten(1, 2))
    plan.layer = layer
    return keys, values


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
    """Attention over the pools as `plan` says. query [batch, heads, tokens, head_dim], the plan's rows in order
    -> [batch, tokens, heads, head_dim]."""
    assert plan is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    read = partial(_expanded, module, plan) if hasattr(module, "expand_kv") else partial(plan.pool.read, plan.layer)
    out = attend(query.transpose(0, 1).flatten(1, 2), plan, read, Rule(scale, sliding_window, softcap, s_aux))
    return out.view(query.shape[0], query.shape[2], *out.shape[1:]), None


def _expanded(module: nn.Module, plan: Plan, index: Index) -> tuple[Tensor, Tensor]:
    """Keys and values [tokens, heads, head_dim] of a layer with latent attention, which caches them compressed."""
    latent, rotated = plan.pool.read(plan.layer, index)
    expand: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = getattr(module, "expand_kv")  # noqa: B009
    keys, values = expand(latent.transpose(0, 1)[None], rotated.transpose(0, 1)[None])
    return keys[0].transpose(0, 1), values[0].transpose(0, 1)


AttentionInterface.register(ATTENTION, tree_attention)
