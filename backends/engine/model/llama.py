"""Decoders of the Llama family, computed in fewer operations than transformers' own modules take.

The same weights, the same modules' linear layers, the same order of work: RMSNorm, attention with rotary
positions, a gated MLP with SiLU. What goes are the steps between them: at one branch and 24 layers, a
thousand small operations and calls cost as much as a fifth of the weights' products.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from branchwise.backends.engine.model.attention import Rule, attend
from branchwise.backends.engine.model.linears import add_to, multiply_with, with_silu
from branchwise.backends.engine.model.plan import Plan

_FAMILY = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}


class _Norm:
    """RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4), in float32 inside."""

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

    def __init__(self, module: nn.Module, place: int, window: int | None) -> None:
        """`window`: of models whose layers don't say which they have."""
        attention, part = module.get_submodule("self_attn"), module.get_submodule
        self.place = place
        self.head_dim: int = getattr(attention, "head_dim")  # noqa: B009
        scale: float = getattr(attention, "scaling")  # noqa: B009
        self.rule = Rule(scale, getattr(attention, "sliding_window", window))
        self.before, self.between = _Norm(part("input_layernorm")), _Norm(part("post_attention_layernorm"))
        self.query, self.key, self.value = (part(f"self_attn.{name}_proj") for name in "qkv")
        self.out = part("self_attn.o_proj")
        self.query_norm, self.key_norm = (
            _Norm(part(f"self_attn.{name}_norm")) if hasattr(attention, f"{name}_norm") else None for name in "qk"
        )
        self.gate, self.up, self.down = (part(f"mlp.{name}_proj") for name in ("gate", "up", "down"))

    def __call__(self, rows: Tensor, cos: Tensor, sin: Tensor, plan: Plan) -> Tensor:
        """[rows, hidden_size] -> [rows, hidden_size]"""
        normed = self.before(rows)
        query, key, value = (
            layer(normed).view(len(rows), -1, self.head_dim) for layer in (self.query, self.key, self.value)
        )
        query, key = _rotated(query, self.query_norm, cos, sin), _rotated(key, self.key_norm, cos, sin)
        plan.pool.write(self.place, plan.written, key.transpose(0, 1), value.transpose(0, 1))
        seen = attend(query.transpose(0, 1), plan, partial(plan.pool.read, self.place), self.rule)
        rows = add_to(rows, self.out, seen.flatten(1))
        normed = self.between(rows)
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
        """How many tokens the layer of the narrowest window sees; None without windows."""
        return min((layer.rule.window for layer in self._layers if layer.rule.window is not None), default=None)

    @classmethod
    def of(cls, network: PreTrainedModel) -> "LlamaDecoder | None":
        """The network's decoder, or None where it is of another family."""
        usual = getattr(network.config, "hidden_act", None) == "silu"
        return cls(network) if usual and type(network).__name__ in _FAMILY else None

    def __len__(self) -> int:
        """Its layers."""
        return len(self._layers)

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        plan: Plan,
        wanted: Sequence[int],
        layers: Sequence[int] | None = None,
    ) -> Tensor:
        """What the output head reads [wanted, hidden_size], of tokens [rows] at positions [rows]. `layers`: those that
        run; None: all."""
        rows = self._embed(tokens)
        cos, sin = (part[0, :, None] for part in self._rotary(rows, positions[None]))
        first, second = sin.chunk(2, dim=-1)
        sin = torch.cat((-first, second), dim=-1)
        for layer in self._layers if layers is None else map(self._layers.__getitem__, layers):
            rows = layer(rows, cos, sin, plan)
        if len(wanted) < len(rows):
            rows = rows[torch.tensor(wanted, device=rows.device)]
        return self._norm(rows)


def _rotated(heads: Tensor, norm: _Norm | None, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864, equation 34) for [rows, heads, head_dim]; the first half of
    `sin` is negated."""
    if norm is not None:
        heads = norm(heads)
    return (heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, dims=-1), sin)
