"""KV pool: keys, values and output-head inputs of the cached tokens, by slot. The radix tree assigns the slots."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SCRATCH_SLOT = 0
"""The slot of padding rows, and of rows computed only for their logits. What is written there is never read."""

_VECTOR_BYTES = 64

SlotIndex = slice | Tensor
"""Slots: a slice where they are consecutive (read without a copy), else [count] int64."""

Slots = np.ndarray[tuple[int], np.dtype[np.int64]]


class KVPool:
    """Keys and values of every layer, and the output head's inputs, for `size` tokens and the scratch slot.

    The first write reserves the memory; the system commits its pages as slots are used.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.keys: dict[int, Tensor] = {}  # layer -> [slots, kv_heads, head_dim]
        self.values: dict[int, Tensor] = {}
        self.hidden: Tensor | None = None  # [slots, hidden_size] inputs of the output head

    @property
    def slots(self) -> range:
        """All slots except the scratch slot."""
        return range(SCRATCH_SLOT + 1, SCRATCH_SLOT + 1 + self.size)

    def write(self, layer: int, index: SlotIndex, keys: Tensor, values: Tensor) -> None:
        """Store a layer's keys and values [kv_heads, tokens, head_dim] at `index` [tokens]."""
        if layer not in self.keys:
            self.keys[layer] = self._reserve(keys.transpose(0, 1))
            self.values[layer] = self._reserve(values.transpose(0, 1))
        _put(self.keys[layer], index, keys.transpose(0, 1))
        _put(self.values[layer], index, values.transpose(0, 1))

    def write_hidden(self, index: Tensor, hidden: Tensor) -> None:
        """Store inputs of the output head [tokens, hidden_size] at `index` [tokens]."""
        if self.hidden is None:
            self.hidden = self._reserve(hidden)
        self.hidden.index_copy_(0, index, hidden)

    def read(self, layer: int, index: SlotIndex) -> tuple[Tensor, Tensor]:
        """Return keys and values [tokens, kv_heads, head_dim] at `index`, as views where it is a slice."""
        keys, values = self.keys[layer], self.values[layer]
        if isinstance(index, slice):
            return keys[index], values[index]
        return keys.index_select(0, index), values.index_select(0, index)

    @property
    def is_aligned(self) -> bool:
        """True if the keys and values of every slot start at a multiple of a processor's widest vector."""
        pools = (*self.keys.values(), *self.values.values())
        return all(pool.stride(0) * pool.element_size() % _VECTOR_BYTES == 0 for pool in pools)

    def token_bytes(self) -> int:
        """Return the bytes of one token's keys and values, known after the first write."""
        return sum(pool[0].numel() * pool.element_size() for pool in (*self.keys.values(), *self.values.values()))

    def _reserve(self, like: Tensor) -> Tensor:
        pool = like.new_empty(self.size + 1, *like.shape[1:])
        pool[SCRATCH_SLOT] = 0  # padding is read with weight 0, and 0 times NaN is NaN
        return pool


def _put(pool: Tensor, index: SlotIndex, rows: Tensor) -> None:
    if isinstance(index, slice):
        pool[index] = rows
    else:
        pool.index_copy_(0, index, rows)


def slot_index(slots: Sequence[int] | Slots, device: torch.device) -> SlotIndex:
    """Return the slots as a slice where they are consecutive, else as a tensor."""
    array = np.asarray(slots, dtype=np.int64)
    if len(array) and array[-1] - array[0] == len(array) - 1 and bool((np.diff(array) == 1).all()):
        return slice(int(array[0]), int(array[-1]) + 1)
    return torch.from_numpy(array.copy()).to(device)


def slot_array(index: SlotIndex) -> Slots:
    """Return the slots as an array, on the CPU."""
    if isinstance(index, slice):
        return np.arange(index.start, index.stop, dtype=np.int64)
    return np.asarray(index.cpu().numpy())
