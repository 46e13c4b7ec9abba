"""The pools: what each held token left in every layer, by slot."""

import torch
from torch import Tensor

TRASH = 0
"""The slot of what is computed again for its logits only, and of padding: nobody reads what is written there."""

Index = slice | Tensor
"""Slots: a slice where they are consecutive (read without a copy), else [count] int64."""


class Pool:
    """Keys and values of every layer, and what the output head read, for `size` tokens and the trash slot.

    The memory is reserved at the first write and taken by the system page by page as slots are used.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.keys: dict[int, Tensor] = {}  # layer -> [slots, kv_heads, head_dim]
        self.values: dict[int, Tensor] = {}
        self.hidden: Tensor | None = None  # [slots, hidden_size]

    @property
    def slots(self) -> range:
        """The slots there are for tokens."""
        return range(TRASH + 1, TRASH + 1 + self.size)

    def write(self, layer: int, index: Index, keys: Tensor, values: Tensor) -> None:
        """Store a layer's keys and values [kv_heads, tokens, head_dim] at `index` [tokens]."""
        if layer not in self.keys:
            self.keys[layer] = self._reserve(keys.transpose(0, 1))
            self.values[layer] = self._reserve(values.transpose(0, 1))
        _put(self.keys[layer], index, keys.transpose(0, 1))
        _put(self.values[layer], index, values.transpose(0, 1))

    def write_hidden(self, index: Tensor, hidden: Tensor) -> None:
        """Store what the output head reads [tokens, hidden_size] at `index` [tokens]."""
        if self.hidden is None:
            self.hidden = self._reserve(hidden)
        self.hidden.index_copy_(0, index, hidden)

    def read(self, layer: int, index: Index) -> tuple[Tensor, Tensor]:
        """Keys and values [tokens, kv_heads, head_dim] at `index`; a view where it is a slice."""
        keys, values = self.keys[layer], self.values[layer]
        if isinstance(index, slice):
            return keys[index], values[index]
        return keys.index_select(0, index), values.index_select(0, index)

    def token_bytes(self) -> int:
        """Bytes of one held token's keys and values. Known after the first write."""
        return sum(pool[0].numel() * pool.element_size() for pool in (*self.keys.values(), *self.values.values()))

    def _reserve(self, like: Tensor) -> Tensor:
        pool = like.new_empty(self.size + 1, *like.shape[1:])
        pool[TRASH] = 0  # padding has no weight, but nothing times not-a-number is not nothing
        return pool


def _put(pool: Tensor, index: Index, rows: Tensor) -> None:
    if isinstance(index, slice):
        pool[index] = rows
    else:
        pool.index_copy_(0, index, rows)
