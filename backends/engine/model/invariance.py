"""Row counts at which linear layers round every row alike."""

import torch
from torch import nn

FEWEST_ROWS = 4
"""Kernels for one to three rows add products in another order than those for many; in bfloat16 that shows in one number
of ten thousand, too few to be measured."""
_COUNTS = (FEWEST_ROWS, 5, 8, 16, 17)  # of rows that are compared with _MANY rows
_MANY = 32
_OUTPUTS = 4096  # of a row that are compared at least, in several trials of a small layer
_MOST_TRIALS = 64


@torch.inference_mode()
def rounds_alike(network: nn.Module) -> bool:
    """Return whether linear layers round a row alike among any other rows, from `FEWEST_ROWS` rows on.

    It is measured with random rows, once for each shape of layer.
    """
    seen: set[tuple[type, int, int, torch.dtype]] = set()
    for layer in network.modules():
        inputs, outputs = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
        weight = getattr(layer, "weight", None)
        if not isinstance(inputs, int) or not isinstance(outputs, int) or not isinstance(weight, torch.Tensor):
            continue
        shape = (type(layer), inputs, outputs, weight.dtype)
        if shape not in seen and not _layer_rounds_alike(layer, inputs, outputs, weight.dtype):
            return False
        seen.add(shape)
    return True


def _layer_rounds_alike(layer: nn.Module, inputs: int, outputs: int, dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    for _ in range(max(1, min(_MOST_TRIALS, _OUTPUTS // outputs))):
        rows = torch.randn(_MANY, inputs, generator=generator).to(dtype)
        expected = layer(rows)
        if not all(torch.equal(layer(rows[:count]), expected[:count]) for count in _COUNTS):
            return False
    return True
