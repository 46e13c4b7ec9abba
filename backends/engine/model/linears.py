"""Faster matrix products for a network's linear layers, swapped in when it is loaded.

On a CPU, a product reads its weights at full memory bandwidth only in the blocked layout the processor's
kernels want (measured with 0.5B weights on two cores: in bfloat16 with AMX 44 ms against 70 for one row, 61
against 100 for 64; in float32 with AVX2 a half for one row, a third for four, two thirds for 64). oneDNN makes
that layout once and keeps it; the plain weights are let go.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_FROM = 64  # rows oneDNN lays the weights out for; one layout serves one row as well
_LEAST = 1 << 14  # weights below this gain nothing
_EXACT = 16  # row counts up to this are computed as they are


class PackedLinear(nn.Module):
    """`nn.Linear` with its weights in oneDNN's own layout."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach(), persistent=False)
        weight = plain.weight.detach()
        self.weight = weight.new_empty(0)  # for code that asks its type
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _FROM)

    def forward(self, rows: Tensor, then: str = "none") -> Tensor:
        """[..., in_features] -> [..., out_features]; `then` is a function oneDNN applies before it rounds."""
        full = _filled(rows)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(full, self.packed, self.bias, then, [], "")
        return out if full is rows else _unfilled(out, rows)

    def combined(self, rows: Tensor, other: Tensor, how: str) -> Tensor:
        """The output added to ("add") or multiplied by ("mul") another tensor of its shape, before it is rounded."""
        full = _filled(rows)
        given = other if full is rows else _filled(other)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(full, given, self.packed, self.bias, how)
        return out if full is rows else _unfilled(out, rows)


def _filled(rows: Tensor) -> Tensor:
    """Rows with empty ones added until there are as many as often occur: at most an eighth more.

    oneDNN makes code for every number of rows: 0.8 ms and 0.6 MB for each layer of its own shape.
    """
    count = rows.numel() // rows.shape[-1]
    if count <= _EXACT:
        return rows
    unit = 1 << ((count - 1).bit_length() - 4)
    missing = -count % unit
    return nn.functional.pad(rows.reshape(count, -1), (0, 0, 0, missing)) if missing else rows


def _unfilled(out: Tensor, rows: Tensor) -> Tensor:
    """What was computed for `rows`, in their shape."""
    return out[: rows.numel() // rows.shape[-1]].view(*rows.shape[:-1], out.shape[-1])


class Int8Linear(nn.Module):
    """`nn.Linear` with weights rounded to 8 bits, one scale for each output: half the bytes, another model."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach(), persistent=False)
        weight = plain.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.register_buffer("weight8", (weight / scales[:, None]).round().to(torch.int8), persistent=False)
        self.register_buffer("scales", scales.to(plain.weight.dtype), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        assert isinstance(self.weight8, Tensor)
        assert isinstance(self.scales, Tensor)
        out: Tensor = torch.ops.aten._weight_int8pack_mm(rows.flatten(0, -2).contiguous(), self.weight8, self.scales)
        if isinstance(self.bias, Tensor):
            out = out + self.bias
        return out.view(*rows.shape[:-1], self.out_features)


def with_silu(layer: nn.Module, rows: Tensor) -> Tensor:
    """silu(layer(rows))"""
    out: Tensor = layer(rows, "swish") if isinstance(layer, PackedLinear) else nn.functional.silu(layer(rows))
    return out


def multiply_with(other: Tensor, layer: nn.Module, rows: Tensor) -> Tensor:
    """other * layer(rows)"""
    out: Tensor = layer.combined(rows, other, "mul") if isinstance(layer, PackedLinear) else other * layer(rows)
    return out


def add_to(other: Tensor, layer: nn.Module, rows: Tensor) -> Tensor:
    """other + layer(rows)"""
    out: Tensor = layer.combined(rows, other, "add") if isinstance(layer, PackedLinear) else other + layer(rows)
    return out


def pack(network: nn.Module) -> None:
    """Swap the linear layers that packing makes faster: those of a type the CPU computes in."""
    _swap(network, PackedLinear, _packable)


def quantize(network: nn.Module) -> None:
    """Swap every linear layer for an 8-bit one."""
    _swap(network, Int8Linear, lambda layer: True)


def _swap(network: nn.Module, make: Callable[[nn.Linear], nn.Module], chosen: Callable[[nn.Linear], bool]) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and chosen(child):
                setattr(module, name, make(child))


def _packable(layer: nn.Linear) -> bool:
    weight = layer.weight
    if weight.device.type != "cpu" or weight.numel() < _LEAST or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32
