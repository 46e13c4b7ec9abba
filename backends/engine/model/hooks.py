"""Hooks into transformers: the registered attention function and the caches that the models receive.

Every attention layer calls the cache's `update(keys, values, layer)` and then the registered attention function. Here
`update` writes the KV pool and returns the new keys and values unchanged; the attention function reads the slots that
the step's plan names. Recurrent layers keep their states in the cache, which the engine fills and reads around a pass.
Only this file depends on transformers' internals.
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

from branchwise.backends.engine.cache.kv_pool import SlotIndex
from branchwise.backends.engine.model.attention import attend
from branchwise.backends.engine.model.attention_kernels import AttentionParams
from branchwise.backends.engine.model.plan import Plan

ATTENTION = "branchwise_tree"
"""Name of the registered attention function. transformers treats names with "flash", "sdpa", "flex_attention", "paged|"
or "/" specially."""


class PoolCache(Cache):
    """The cache of a model without recurrent layers: it writes to the KV pool."""

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
    """The cache of a model with recurrent layers: it has their states; attention layers use the KV pool."""

    def __init__(self, network: PreTrainedModel, plan: Plan, states: Sequence[Tensor] | None, rows: int) -> None:
        """`states`: from `tensors`, overwritten by the pass; None at the start of a path."""
        super().__init__(config=network.config)
        self.plan = plan
        if states is not None:
            remaining = iter(states)
            for layer in self._recurrent_layers():
                for number in range(layer.number_of_states):
                    _set_state(layer, number, next(remaining), next(remaining))

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return _write(self.plan, key_states, value_states, layer_idx)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def tensors(self) -> list[Tensor]:
        """Return the states of every recurrent layer, [rows, ...] each; [rows, 0] where a layer has none of a kind."""
        found: list[Tensor] = []
        for layer in self._recurrent_layers():
            for number in range(layer.number_of_states):
                pair = layer.conv_states[number], layer.recurrent_states[number]
                present = next(state for state in pair if state is not None)
                found.extend(present.new_empty(present.shape[0], 0) if state is None else state for state in pair)
        return found

    def _recurrent_layers(self) -> list[LinearAttentionCacheLayerMixin]:
        return [layer for layer in self.layers if isinstance(layer, LinearAttentionCacheLayerMixin)]


class MatrixStateCache(xLSTMCache):
    """xLSTM's own cache, in float32 for every dtype of the model: its sums grow over the whole path."""

    def __init__(self, network: PreTrainedModel, plan: Plan, states: Sequence[Tensor] | None, rows: int) -> None:
        assert isinstance(network.config, xLSTMConfig)
        super().__init__(network.config, rows, dtype=torch.float32, device=str(network.device))
        if states is not None:
            remaining = iter(states)
            self.rnn_state = {layer: (next(remaining), next(remaining), next(remaining)) for layer in self.rnn_state}

    def tensors(self) -> list[Tensor]:
        """Return the states of every layer, [rows, ...] each."""
        return [state for states in self.rnn_state.values() for state in states]


def state_cache(network: PreTrainedModel) -> type[StateCache] | type[MatrixStateCache] | None:
    """Return the type of cache for a network's recurrent layers, or None when it has none."""
    if network.config.model_type == "xlstm":
        return MatrixStateCache
    try:
        layers = DynamicCache(config=network.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return StateCache if any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers) else None


def cache_argument(network: PreTrainedModel) -> str:
    """Return the name of a network's cache argument: transformers 5.24 gave it one name for all architectures."""
    accepted = inspect.signature(network.forward).parameters
    return next(name for name in ("cache", "past_key_values", "cache_params") if name in accepted)


def _set_state(layer: LinearAttentionCacheLayerMixin, number: int, conv: Tensor, recurrent: Tensor) -> None:
    if conv.numel():
        layer.conv_states[number] = conv
        layer.conv_kernel_size[number] = conv.shape[-1]
        layer.is_conv_states_initialized[number] = True
    if recurrent.numel():
        layer.recurrent_states[number] = recurrent
        layer.is_recurrent_states_initialized[number] = True
    layer.has_previous_state[number] = True


def _write(plan: Plan, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Write keys and values [batch, kv_heads, tokens, head_dim] to the pool, row after row, and return them."""
    plan.pool.write(layer, plan.slot_mapping, keys.transpose(0, 1).flatten(1, 2), values.transpose(0, 1).flatten(1, 2))
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
    """Return attention over the slots that the plan names, in the form that transformers expects.

    query [batch, heads, tokens, head_dim], the plan's rows in order -> [batch, tokens, heads, head_dim].
    """
    assert plan is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    read = partial(_read_latent, module, plan) if hasattr(module, "expand_kv") else partial(plan.pool.read, plan.layer)
    params = AttentionParams(scale, sliding_window, softcap, s_aux)
    out = attend(query.transpose(0, 1).flatten(1, 2), plan, read, params)
    return out.view(query.shape[0], query.shape[2], *out.shape[1:]), None


def _read_latent(module: nn.Module, plan: Plan, index: SlotIndex) -> tuple[Tensor, Tensor]:
    """Return keys and values [tokens, heads, head_dim] of a layer with latent attention, expanded from the cache."""
    latent, rotated = plan.pool.read(plan.layer, index)
    expand: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = getattr(module, "expand_kv")  # noqa: B009
    keys, values = expand(latent.transpose(0, 1)[None], rotated.transpose(0, 1)[None])
    return keys[0].transpose(0, 1), values[0].transpose(0, 1)


AttentionInterface.register(ATTENTION, tree_attention)
