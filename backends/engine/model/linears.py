"""Faster linear layers for a network, swapped in at load.

On a CPU, a matrix product reads its weights at full memory bandwidth only in the blocked layout of the processor's
kernels. Measured with 0.5B weights on two cores: in bfloat16 with AMX 44 ms against 70 for one row and 61 against 100
for 64; in float32 with AVX2 half the time for one row, a third for four and two thirds for 64. oneDNN makes the layout
once and the plain weights are freed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_LAYOUT_ROWS = 64  # row count that oneDNN optimizes the layout for; the same layout serves one row as well
_MIN_WEIGHTS = 1 << 14  # smaller layers gain nothing
_UNPADDED_BITS = 4  # row counts of more binary digits end in zeros


class PackedLinear(nn.Module):
    """`nn.Linear` with its weights in oneDNN's own layout."""

    fewest_rows = 1
    """Rows of a product, at least: fewer are padded."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach(), persistent=False)
        weight = plain.weight.detach()
        self.weight = weight.new_empty(0)  # for code that reads its dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _LAYOUT_ROWS)

    def forward(self, rows: Tensor, activation: str = "none") -> Tensor:
        """[..., in_features] -> [..., out_features]; oneDNN applies `activation` before it rounds."""
        full = _pad_rows(rows, self.fewest_rows)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(full, self.packed, self.bias, activation, [], "")
        return out if full is rows else _unpad(out, rows)

    def combine(self, rows: Tensor, other: Tensor, operation: str) -> Tensor:
        """Return the output added to ("add") or multiplied by ("mul") a tensor of its shape, before rounding."""
        full = _pad_rows(rows, self.fewest_rows)
        padded = other if full is rows else _pad_rows(other, self.fewest_rows)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(full, padded, self.packed, self.bias, operation)
        return out if full is rows else _unpad(out, rows)


def _pad_rows(rows: Tensor, fewest: int) -> Tensor:
    """Return the rows padded to at least `fewest` and to one of few row counts, at most an eighth more.

    oneDNN compiles a kernel for every number of rows: 0.8 ms and 0.6 MB for each distinct layer shape.
    """
    count = rows.numel() // rows.shape[-1]
    unit = fewest if count < fewest else 1 << max(0, (count - 1).bit_length() - _UNPADDED_BITS)
    missing = -count % unit
    if not missing:
        return rows
    flat = rows.reshape(count, -1)
    return torch.cat((flat, flat[:1].expand(missing, -1)))


def _unpad(out: Tensor, rows: Tensor) -> Tensor:
    """Return the output for `rows` without padding, in their shape."""
    return out[: rows.numel() // rows.shape[-1]].view(*rows.shape[:-1], out.shape[-1])


class PaddedLinear(nn.Module):
    """Another linear layer, whose products have some number of rows at least."""

    def __init__(self, plain: nn.Module, fewest_rows: int) -> None:
        super().__init__()
        self.plain, self._fewest_rows = plain, fewest_rows

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]"""
        full = _pad_rows(rows, self._fewest_rows)
        out: Tensor = self.plain(full)
        return out if full is rows else _unpad(out, rows)


class Int8Linear(nn.Module):
    """`nn.Linear` with weights rounded to 8 bits and one scale for each output.

    It needs half the memory and changes the model's distribution.
    """

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
    """Return silu(layer(rows))."""
    out: Tensor = layer(rows, "swish") if isinstance(layer, PackedLinear) else nn.functional.silu(layer(rows))
    return out


def multiply_with(other: Tensor, layer: nn.Module, rows: Tensor) -> Tensor:
    """Return other * layer(rows)."""
    out: Tensor = layer.combine(rows, other, "mul") if isinstance(layer, PackedLinear) else other * layer(rows)
    return out


def add_to(other: Tensor, layer: nn.Module, rows: Tensor) -> Tensor:
    """Return other + layer(rows)."""
    out: Tensor = layer.combine(rows, other, "add") if isinstance(layer, PackedLinear) else other + layer(rows)
    return out


def pack(network: nn.Module) -> None:
    """Replace the linear layers that packing makes faster: large ones on a CPU with kernels for their dtype."""
    _replace(network, PackedLinear, _is_packable)


def quantize(network: nn.Module) -> None:
    """Replace every linear layer with an 8-bit one."""
    _replace(network, Int8Linear, lambda layer: True)


def _replace(network: nn.Module, make: Callable[[nn.Linear], nn.Module], chosen: Callable[[nn.Linear], bool]) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and chosen(child):
                setattr(module, name, make(child))


def _is_packable(layer: nn.Linear) -> bool:
    weight = layer.weight
    if weight.device.type != "cpu" or weight.numel() < _MIN_WEIGHTS or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32
