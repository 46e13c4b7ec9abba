"""Kernels that round a row alike whatever other rows are in the product."""

import torch
from torch import Tensor, nn

from branchwise.backends.engine.model.attention_kernels import AttentionParams, biased_attention
from branchwise.backends.engine.model.linears import PackedLinear, PaddedLinear
from branchwise.backends.engine.model.tiles import BLOCK, LANES, UNIT

_FEW = (1, 2, 3, 4)
"""Row counts up to which a product may be padded. Kernels for a single row add products in another order."""
_SOME = (5, 8, 16, 17)
_MANY = 32  # rows that the others are compared with
_MOST = 512
_COMPARED = 100_000
"""Numbers of each row count that are compared: in bfloat16, another order shows in one number of four thousand."""
_MOST_PRODUCTS = 1 << 32  # multiplications of a product that is measured


@torch.inference_mode()
def make_rows_independent(network: nn.Module) -> bool:
    """Pad the products that would round a row otherwise for its small number of rows. Return whether that suffices.

    It is measured with random rows, once for each shape of layer.
    """
    measured: dict[tuple[type, int, int, torch.dtype], int | None] = {}
    for module in [*network.modules()]:
        for name, layer in module.named_children():
            inputs, outputs = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
            weight = getattr(layer, "weight", None)
            if not isinstance(inputs, int) or not isinstance(outputs, int) or not isinstance(weight, Tensor):
                continue
            shape = (type(layer), inputs, outputs, weight.dtype)
            if shape not in measured:
                measured[shape] = _fewest_rows(layer, inputs, outputs, weight.dtype)
            fewest = measured[shape]
            if fewest is None:
                return False
            if isinstance(layer, PackedLinear):
                layer.fewest_rows = fewest
            elif fewest > 1:
                setattr(module, name, PaddedLinear(layer, fewest))
    return True


def _fewest_rows(layer: nn.Module, inputs: int, outputs: int, dtype: torch.dtype) -> int | None:
    """Return the number of rows from which on a layer rounds each row alike, or None if that takes more than `_FEW`."""
    generator = torch.Generator().manual_seed(0)
    alike = dict.fromkeys((*_FEW, *_SOME), True)
    for trial in range(-(-_COMPARED // (outputs * _MANY))):
        rows = torch.randn(_MANY, inputs, generator=generator).to(dtype)
        expected = layer(rows)
        if not trial and not _rounds_many_alike(layer, rows, expected):
            return None
        for count in alike:
            firsts = range(0, _MANY - count + 1, count)[: -(-_COMPARED // (outputs * count))]
            alike[count] &= all(torch.equal(layer(rows[at : at + count]), expected[at : at + count]) for at in firsts)
    wrong = max((count for count, is_alike in alike.items() if not is_alike), default=0)
    return next((count for count in _FEW if count > wrong), None)


def _rounds_many_alike(layer: nn.Module, rows: Tensor, expected: Tensor) -> bool:
    """Return whether a layer rounds rows alike among many more, or True if that would take long to measure."""
    copies = _MOST // len(rows)
    is_large = copies * rows.numel() * expected.shape[1] > _MOST_PRODUCTS
    return is_large or torch.equal(layer(rows.repeat(copies, 1)), expected.repeat(copies, 1))


@torch.inference_mode()
def attends_alike(head_dim: int, dtype: torch.dtype) -> bool:
    """Return whether attention rounds a query alike among any number of others and before any masked positions."""
    generator, params = torch.Generator().manual_seed(0), AttentionParams(head_dim**-0.5)
    for block in (BLOCK, 8 * BLOCK):
        query, keys, values = (
            torch.randn(1, 1, count, head_dim, generator=generator).to(dtype) for count in (_MOST, block, block)
        )
        many = biased_attention(query, keys, values, params, None)
        for count in (UNIT, 2 * UNIT, _MANY, _MOST // 2 - UNIT):
            few = biased_attention(query[:, :, :count].contiguous(), keys, values, params, None)
            if not (torch.equal(few.out, many.out[:, :, :count]) and torch.equal(few.lse, many.lse[:, :, :count])):
                return False
        masked = torch.zeros(1, 1, _MOST, block, dtype=dtype)
        masked[..., LANES - 1 :] = -torch.inf
        cut = (query, keys[:, :, :LANES], values[:, :, :LANES], params, masked[..., :LANES].contiguous())
        whole, short = biased_attention(query, keys, values, params, masked), biased_attention(*cut)
        if not (torch.equal(whole.out, short.out) and torch.equal(whole.lse, short.lse)):
            return False
    return True
