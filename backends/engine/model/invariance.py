"""Row counts at which linear layers round every row alike."""

import torch
from torch import nn

_COUNTS = (1, 2, 3, 4, 8, 16, 17)  # of rows that are compared with _MANY rows
_MANY = 32
_OUTPUTS = 4096  # of a row that are compared at least, in several trials of a small layer
_MOST_TRIALS = 64
_MOST_PADDED = 4  # rows that a small step is padded to at most


@torch.inference_mode()
def fewest_rows(network: nn.Module) -> int | None:
    """Return the number of rows from which on all linear layers round a row alike, whatever the other rows are.

    None: not even many rows are enough. Kernels for one to three rows may add products in another order than those for
    many. It is measured with random rows, once for each shape of layer.
    """
    fewest = 1
    seen: set[tuple[type, int, int, torch.dtype]] = set()
    for layer in network.modules():
        inputs, outputs = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
        weight = getattr(layer, "weight", None)
        if not isinstance(inputs, int) or not isinstance(outputs, int) or not isinstance(weight, torch.Tensor):
            continue
        shape = (type(layer), inputs, outputs, weight.dtype)
        if shape not in seen and weight.is_floating_point():
            seen.add(shape)
            fewest = max(fewest, _fewest_rows(layer, inputs, outputs, weight.dtype))
    return fewest if fewest <= _MOST_PADDED else None


def _fewest_rows(layer: nn.Module, inputs: int, outputs: int, dtype: torch.dtype) -> int:
    generator = torch.Generator().manual_seed(0)
    fewest = 1
    for _ in range(max(1, min(_MOST_TRIALS, _OUTPUTS // outputs))):
        rows = torch.randn(_MANY, inputs, generator=generator).to(dtype)
        expected = layer(rows)
        for count in _COUNTS:
            if count >= fewest and not torch.equal(layer(rows[:count]), expected[:count]):
                fewest = count + 1
    return fewest
