"""The held tokens: a tree over tokens, and the keys and values each of them left in every layer.

Token granularity: a node is one token after its prefix, and owns one slot of the pools. Branches
share every node they have in common; a fork is a reference.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True, eq=False)
class Node:
    """One held token after its prefix."""

    parent: "Node | None"
    token: int
    slot: int
    depth: int  # tokens from the start of the path, this one included
    children: dict[int, "Node"] = field(default_factory=dict)
    running: int = 0  # branches that grow from here; a node with any is never evicted
    used: int = 0  # when it was last matched or grown from, in steps
    readable: bool = False  # whether the pool holds what the output head read here


class PoolFullError(Exception):
    """Every slot is held by a running branch."""


class Store:
    """The tree and its pools. Owned by the engine's step loop: not thread-safe."""

    def __init__(self, limit: int, device: torch.device) -> None:
        """`limit`: most tokens held."""
        self.limit = limit
        self.device = device
        self.root = Node(None, -1, -1, 0)
        self.keys: dict[int, Tensor] = {}  # layer -> [kv_heads, slots, head_dim]
        self.values: dict[int, Tensor] = {}
        self.hidden: Tensor | None = None  # [slots, hidden_size] what the output head reads
        self._free: list[int] = []
        self._capacity = 0
        self._clock = itertools.count(1)

    def match(self, tokens: Sequence[int]) -> Node:
        """The deepest node along `tokens`."""
        node, now = self.root, next(self._clock)
        for token in tokens:
            child = node.children.get(token)
            if child is None:
                break
            child.used = now
            node = child
        return node

    def slots_of(self, node: Node) -> list[int]:
        """The slots from the start of the path to `node`."""
        slots = []
        while node.parent is not None:
            slots.append(node.slot)
            node = node.parent
        slots.reverse()
        return slots

    def insert(self, parent: Node, token: int, slot: int) -> Node:
        """The node of `token` after `parent`. Where another branch made it first, its slot is kept and ours freed."""
        existing = parent.children.get(token)
        if existing is not None:
            if existing.slot != slot:
                self._free.append(slot)
            return existing
        node = Node(parent, token, slot, parent.depth + 1, used=next(self._clock))
        parent.children[token] = node
        return node

    def allocate(self, count: int) -> list[int]:
        """`count` free slots; evicts what was used longest ago. Raises PoolFullError."""
        while len(self._free) < count:
            if self._capacity < self.limit:
                self._grow(count)
            elif not self._evict(max(count, self._capacity // 16)):
                raise PoolFullError
        return [self._free.pop() for _ in range(count)]

    def free(self, slots: Sequence[int]) -> None:
        """Give back slots that no node owns."""
        self._free.extend(slots)

    def forget(self, node: Node) -> None:
        """Make the tokens that only this path holds the first to go."""
        while node.parent is not None and not node.children and not node.running:
            node.used = 0
            if len(node.parent.children) > 1:
                return
            node = node.parent

    def clear(self) -> None:
        """Drop every token that no running branch stands on."""
        self._evict(self._capacity)

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store a layer's keys and values [kv_heads, tokens, head_dim] at `slots` [tokens]."""
        if layer not in self.keys:
            self.keys[layer] = keys.new_zeros(keys.shape[0], self._capacity, keys.shape[2])
            self.values[layer] = values.new_zeros(values.shape[0], self._capacity, values.shape[2])
        self.keys[layer].index_copy_(1, slots, keys)
        self.values[layer].index_copy_(1, slots, values)

    def write_hidden(self, slots: Tensor, hidden: Tensor) -> None:
        """Store what the output head reads [tokens, hidden_size] at `slots` [tokens]."""
        if self.hidden is None:
            self.hidden = hidden.new_zeros(self._capacity, hidden.shape[1])
        self.hidden.index_copy_(0, slots, hidden)

    @property
    def held(self) -> int:
        """How many slots are in use."""
        return self._capacity - len(self._free)

    def _grow(self, count: int) -> None:
        old = self._capacity
        self._capacity = min(self.limit, max(2 * old, old + count, 4096))
        self._free.extend(range(self._capacity - 1, old - 1, -1))
        extra = self._capacity - old
        for pool in (self.keys, self.values):
            for layer, tensor in pool.items():
                pool[layer] = torch.cat([tensor, tensor.new_zeros(tensor.shape[0], extra, tensor.shape[2])], dim=1)
        if self.hidden is not None:
            self.hidden = torch.cat([self.hidden, self.hidden.new_zeros(extra, self.hidden.shape[1])])

    def _evict(self, count: int) -> int:
        """Drop up to `count` tokens, oldest leaves first; how many were dropped."""
        dropped = 0
        while dropped < count:
            leaves = [node for node in self._nodes() if not node.children and not node.running]
            if not leaves:
                break
            leaves.sort(key=lambda node: node.used)
            for leaf in leaves[: max(1, len(leaves) // 2)]:
                dropped += self._drop_chain(leaf, count - dropped)
                if dropped >= count:
                    break
        return dropped

    def _drop_chain(self, leaf: Node, most: int) -> int:
        """Drop a leaf and the ancestors that only it needed."""
        dropped, node = 0, leaf
        while node.parent is not None and not node.children and not node.running and dropped < most:
            parent = node.parent
            del parent.children[node.token]
            self._free.append(node.slot)
            dropped += 1
            node = parent
        return dropped

    def _nodes(self) -> list[Node]:
        found, stack = [], list(self.root.children.values())
        while stack:
            node = stack.pop()
            found.append(node)
            stack.extend(node.children.values())
        return found
