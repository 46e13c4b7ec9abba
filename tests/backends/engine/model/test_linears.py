"""Packed linear layers have the outputs of plain ones, for every number of rows."""

import pytest
import torch
from torch import nn

from branchwise.backends.engine.model.linears import PackedLinear


@pytest.fixture(scope="module")
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(128, 192)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="the layout is oneDNN's")
@pytest.mark.parametrize("rows", [1, 16, 17, 33, 63, 64, 65, 100, 129, 513])
def test_a_packed_layer_has_the_output_of_a_plain_one(layer: nn.Linear, rows: int) -> None:
    packed, inputs = PackedLinear(layer), torch.randn(1, rows, 128)
    other = torch.randn(1, rows, 192)

    with torch.inference_mode():
        plain = layer(inputs)
        for got, expected in [
            (packed(inputs), plain),
            (packed(inputs, "swish"), nn.functional.silu(plain)),
            (packed(inputs[0]), plain[0]),
            (packed.combine(inputs, other, "add"), plain + other),
            (packed.combine(inputs, other, "mul"), plain * other),
        ]:
            assert got.shape == expected.shape
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
