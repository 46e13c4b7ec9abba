"""Lower bounds of a decode step's time: the model's matrix products, and the bytes it must read."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

Product = Callable[[Tensor], Tensor]
COPY_BYTES = 1 << 29  # larger than most caches
_LAYOUT_ROWS = 64


class Products:
    """All linear layers of a network, the output head included, on random rows."""

    def __init__(self, network: PreTrainedModel) -> None:
        layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
        self.weight_bytes = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
        self._dtype = layers[0].weight.dtype
        self._device = layers[0].weight.device
        self._widths = sorted({layer.in_features for layer in layers})
        self._layouts: list[list[tuple[int, Product]]] = [[(layer.in_features, _plain(layer)) for layer in layers]]
        packed = [(layer.in_features, _packed(layer)) for layer in layers]
        if all(product is not None for _, product in packed):
            self._layouts.append([(width, product) for width, product in packed if product is not None])

    @torch.inference_mode()
    def seconds(self, rows: int, steps: int) -> float:
        """Return the seconds of one step on `rows` rows: the mean of `steps`, in the faster of torch's two layouts."""
        inputs = {width: torch.randn(rows, width).to(self._device, self._dtype) for width in self._widths}
        return min(self._mean(layout, inputs, steps) for layout in self._layouts)

    def _mean(self, products: list[tuple[int, Product]], inputs: dict[int, Tensor], steps: int) -> float:
        for width, product in products:
            product(inputs[width])
        synchronize(self._device)
        start = time.perf_counter()
        for _ in range(steps):
            for width, product in products:
                product(inputs[width])
        synchronize(self._device)
        return (time.perf_counter() - start) / steps


def _plain(layer: nn.Linear) -> Product:
    return lambda rows: functional.linear(rows, layer.weight, layer.bias)


def _packed(layer: nn.Linear) -> Product | None:
    """Return the product with weights in oneDNN's layout, or None where torch has no kernel for it."""
    weight, bias = layer.weight.detach(), layer.bias
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _LAYOUT_ROWS)
    except (AttributeError, RuntimeError):
        return None
    return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")


class StepBytes(NamedTuple):
    """Bytes that a decode step must read."""

    weights: int
    kv: int  # keys and values: the shared prefix once, a tail for each branch

    def seconds(self, bandwidth: float) -> float:
        """Return the seconds of reading them at `bandwidth` bytes per second."""
        return (self.weights + self.kv) / bandwidth


def token_bytes(network: PreTrainedModel) -> int:
    """Return the bytes of one token's keys and values."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * network.dtype.itemsize)


def step_bytes(network: PreTrainedModel, weights: int, branches: int, prompt: int, new: int) -> StepBytes:
    """Return the bytes of the middle one of `new` steps."""
    return StepBytes(weights, (prompt + branches * new // 2) * token_bytes(network))


@torch.inference_mode()
def copy_bandwidth(device: torch.device, repeat: int = 5, size: int = COPY_BYTES) -> float:
    """Return the bytes per second, read and written, of the fastest of `repeat` large copies."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(repeat + 1):
        synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size / best


def synchronize(device: torch.device) -> None:
    """Wait for the kernels queued on `device`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
