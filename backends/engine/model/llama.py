"""Decoders of the Llama family, computed in fewer operations than transformers' own modules need.

The weights, the linear layers and the order of work are those of transformers: RMSNorm, attention with rotary
positions, a gated MLP with SiLU. The small operations and calls between them are left out: with one branch and 24
layers there are a thousand of them, which cost a fifth of the time of the matrix products.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from branchwise.backends.engine.model.attention import attend
from branchwise.backends.engine.model.attention_kernels import AttentionParams
from branchwise.backends.engine.model.invariance import attends_alike
from branchwise.backends.engine.model.linears import add_to, multiply_with, with_silu
from branchwise.backends.engine.model.plan import Plan

_VECTOR = 16  # numbers
_FAMILY = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}


class _Norm:
    """RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4), computed in float32."""

    def __init__(self, module: nn.Module) -> None:
        self.weight = module.get_parameter("weight")
        eps = getattr(module, "variance_epsilon")  # noqa: B009
        self.eps = torch.tensor(eps, dtype=torch.float32, device=self.weight.device)
        self.share = 1 / self.weight.numel()

    def __call__(self, rows: Tensor) -> Tensor:
        """[..., size] -> [..., size]"""
        wide = rows.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = torch.addcmul(self.eps, norm, norm, value=self.share).rsqrt_()
        scaled = wide * scale if wide is rows else wide.mul_(scale)
        return scaled.to(rows.dtype).mul_(self.weight)


class _Layer:
    """One decoder layer."""

    def __init__(self, module: nn.Module, index: int, window: int | None) -> None:
        """`window`: the sliding window, where the layer itself does not name one."""
        attention, part = module.get_submodule("self_attn"), module.get_submodule
        self.index = index
        self.head_dim: int = getattr(attention, "head_dim")  # noqa: B009
        scale: float = getattr(attention, "scaling")  # noqa: B009
        self.params = AttentionParams(scale, getattr(attention, "sliding_window", window))
        self.attention_norm = _Norm(part("input_layernorm"))
        self.mlp_norm = _Norm(part("post_attention_layernorm"))
        self.query, self.key, self.value = (part(f"self_attn.{name}_proj") for name in "qkv")
        self.out = part("self_attn.o_proj")
        self.query_norm, self.key_norm = (
            _Norm(part(f"self_attn.{name}_norm")) if hasattr(attention, f"{name}_norm") else None for name in "qk"
        )
        self.gate, self.up, self.down = (part(f"mlp.{name}_proj") for name in ("gate", "up", "down"))

    def __call__(self, rows: Tensor, cos: Tensor, sin: Tensor, plan: Plan) -> Tensor:
        """[rows, hidden_size] -> [rows, hidden_size]"""
        normed = self.attention_norm(rows)
        query, key, value = (
            layer(normed).view(len(rows), -1, self.head_dim) for layer in (self.query, self.key, self.value)
        )
        query, key = _rotate(query, self.query_norm, cos, sin), _rotate(key, self.key_norm, cos, sin)
        plan.pool.write(self.index, plan.slot_mapping, key.transpose(0, 1), value.transpose(0, 1))
        attended = attend(query.transpose(0, 1), plan, partial(plan.pool.read, self.index), self.params)
        rows = add_to(rows, self.out, attended.flatten(1))
        normed = self.mlp_norm(rows)
        return add_to(rows, self.down, multiply_with(with_silu(self.gate, normed), self.up, normed))


class LlamaDecoder:
    """The network without its output head."""

    def __init__(self, network: PreTrainedModel) -> None:
        model = network.get_decoder()
        assert isinstance(model, nn.Module)
        self._embed = model.get_submodule("embed_tokens")
        self._rotary, self._norm = model.get_submodule("rotary_emb"), _Norm(model.get_submodule("norm"))
        window = getattr(network.config, "sliding_window", None)
        self._layers = [_Layer(layer, i, window) for i, layer in enumerate(model.get_submodule("layers").children())]

    @property
    def window(self) -> int | None:
        """Number of tokens in the narrowest sliding window of a layer, or None without windows."""
        return min((layer.params.window for layer in self._layers if layer.params.window is not None), default=None)

    @staticmethod
    def supports(network: PreTrainedModel) -> bool:
        """Return whether the network is of this family."""
        return getattr(network.config, "hidden_act", None) == "silu" and type(network).__name__ in _FAMILY

    def attends_alike(self) -> bool:
        """Return whether attention rounds a query alike whatever else is computed."""
        return attends_alike(self._layers[0].head_dim, self._norm.weight.dtype)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        plan: Plan,
        logit_rows: Sequence[int],
        layers: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the output head's input [logit_rows, hidden_size] for tokens [rows] at positions [rows].

        `layers`: those that run; None: all.
        """
        rows = self._embed(tokens)
        # Padded to whole vectors of the processor: it computes the cosines of the last few numbers in another way.
        padded = nn.functional.pad(positions, (0, -len(positions) % _VECTOR))
        cos, sin = (part[0, : len(positions), None] for part in self._rotary(rows, padded[None]))
        first, second = sin.chunk(2, dim=-1)
        sin = torch.cat((-first, second), dim=-1)
        for layer in self._layers if layers is None else map(self._layers.__getitem__, layers):
            rows = layer(rows, cos, sin, plan)
        if len(logit_rows) < len(rows):
            rows = rows[torch.tensor(logit_rows, device=rows.device)]
        return self._norm(rows)


def _rotate(heads: Tensor, norm: _Norm | None, cos: Tensor, sin: Tensor) -> Tensor:
    """Return [rows, heads, head_dim] with rotary positions (Su et al. 2021, arXiv 2104.09864, equation 34).

    The first half of `sin` is negated. `norm` is applied first.
    """
    if norm is not None:
        heads = norm(heads)
    return (heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, dims=-1), sin)
