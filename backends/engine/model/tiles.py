"""Tiles of a packed step: attention whose rounding depends on a path alone, not on what else is computed or cached.

The positions before a row are divided into blocks whose sizes and starts depend on the row's position alone: large ones
first, at multiples of their size, then smaller ones. A tile is the queries that read one block, which is read once for
all of them. The attention merges the blocks of each row in order of position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import SCRATCH_SLOT, KVPool, SlotIndex, Slots, slot_index

BLOCK = 64
"""Positions of the smallest block."""
LARGEST_BLOCK = BLOCK << 5
"""Positions of the largest block. Larger ones would save hardly any merges."""
UNIT = 4
"""Queries of a tile are padded to a multiple: kernels round the last one to three in another way."""
LANES = 16
"""A block read in part is cut after a multiple: kernels add up whole vectors."""
_RATIO = 2  # of the sizes of blocks
_GROWTH = 4  # blocks whose numbers of readers differ by less than this factor are padded to one size
_SMALL = 4  # readers of a block up to which a mask that hides nothing costs less than another call


class Chain(NamedTuple):
    """Rows at positions of one path, up to its end. Other rows of the path may belong to other chains."""

    slots: Slots  # [positions] of the whole path
    rows: Sequence[int]  # of the step
    positions: Sequence[int]  # [rows] ascending


class Heads(NamedTuple):
    """Numbers of heads of a layer."""

    queries: int
    keys: int

    @property
    def shared(self) -> int:
        """Number of query heads that read one key head."""
        return self.queries // self.keys


class TileGroup(NamedTuple):
    """The tiles of one call: blocks of one size, with equally many queries for each key head."""

    blocks: int
    slots: SlotIndex  # of all blocks, equally many of each
    queries: int  # of each block and key head
    bias: Tensor | None  # [blocks, 1, queries, slots of a block] -inf where a query does not attend, else 0


class Parts(NamedTuple):
    """The results of each row and head, in order of position of their blocks."""

    blocks: Tensor  # [rows * heads, blocks] index among the results of all groups
    absent: Tensor | None  # [blocks, rows * heads] True where a row reads fewer blocks; None: nowhere
    starts: Tensor  # [rows * heads] place of the first block of each in the flat index


class Tiles(NamedTuple):
    """The tiles of a step, and the places of their results."""

    groups: Sequence[TileGroup]
    queries: Tensor  # of all groups: index among the queries [heads * rows]
    parts: Parts


@dataclass(slots=True, eq=False)
class _Block:
    """A block of keys and the rows that read it."""

    slots: Slots  # at most `size`
    start: int  # position of the first slot
    size: int
    partial: bool  # whether a row does not attend to some of it
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)  # [rows]

    @property
    def width(self) -> int:
        """Number of positions to compute. A cut-off end changes no sum: nobody attends to it."""
        return min(self.size, -(-(max(self.positions) + 1 - self.start) // LANES) * LANES)


class _Part(NamedTuple):
    """The results of a row in one block, those of its first head for each key head next to each other."""

    start: int  # position of the block
    first: int  # index among the results


def make_tiles(chains: Sequence[Chain], window: int | None, heads: Heads, dtype: torch.dtype, pool: KVPool) -> Tiles:
    """Return the tiles of all chains in layers whose queries attend to `window` positions (None: all).

    `dtype`: that of the queries.
    """
    device = pool.device
    count = sum(len(chain.rows) for chain in chains)
    parts: list[list[_Part]] = [[] for _ in range(count)]
    groups: list[TileGroup] = []
    queries = []
    first = 0
    for blocks in _by_size(_blocks(chains, window)):
        size = -(-max(len(block.rows) for block in blocks) * heads.shared // UNIT) * UNIT
        width = max(block.width for block in blocks)
        bias = None
        if any(block.partial for block in blocks):
            bias = _bias(blocks, size, width, window, heads).to(device, dtype)
        slots = _pad_slots(blocks, width)
        # Kernels may round unaligned keys in another way.
        index = slot_index(slots, device) if pool.is_aligned else torch.from_numpy(slots).to(device)
        groups.append(TileGroup(len(blocks), index, size, bias))
        queries.append(_index_queries(blocks, size, count, heads))
        for block in blocks:
            for place, row in enumerate(block.rows):
                parts[row].append(_Part(block.start, first + place * heads.queries))
            first += heads.keys * size
    return Tiles(groups, torch.from_numpy(np.concatenate(queries)).to(device), _index_parts(parts, heads, device))


@cache
def _cover(first: int, last: int) -> Sequence[tuple[int, int]]:
    """Return start and size of the blocks that cover positions from `first` to `last`, multiples of `BLOCK`.

    Branches that part inside a block read it once each when they have passed its end, instead of its beginning once
    for all. So a large block is used only by rows half its size beyond it, which read as much alone anyway.
    """
    blocks, start = [], first
    while start < last:
        size = BLOCK
        while (larger := size * _RATIO) <= LARGEST_BLOCK and not start % larger and start + larger * 3 // 2 <= last:
            size = larger
        blocks.append((start, size))
        start += size
    return blocks


def _blocks(chains: Sequence[Chain], window: int | None) -> list[_Block]:
    """Return the blocks that some rows read whole, once for all paths, and those read in part, once for each chain."""
    whole: dict[tuple[int, int], _Block] = {}  # by size and last slot: its token has only one path before it
    partial: list[_Block] = []
    for slots, rows, positions in chains:
        own: dict[int, _Block] = {}  # by start

        def bounds(place: int, positions: Sequence[int] = positions) -> tuple[int, int]:
            """Return the end of the last whole block and the start of the first one."""
            lowest = 0 if window is None else max(0, positions[place] + 1 - window)
            return (positions[place] + 1) // BLOCK * BLOCK, -(-lowest // BLOCK) * BLOCK

        for (last, first), places in groupby(range(len(rows)), bounds):
            found = [*places]
            for start, size in _cover(first, last):
                key = int(slots[start + size - 1])
                key = key if key != SCRATCH_SLOT else -1 - len(whole)  # a measured step reads nothing else
                block = whole.setdefault((size, key), _Block(slots[start : start + size], start, size, partial=False))
                block.rows.extend(rows[place] for place in found)
                block.positions.extend(positions[place] for place in found)
            for place in found:
                for start in _cut_blocks(positions[place], window):
                    block = own.setdefault(start, _Block(slots[start : start + BLOCK], start, BLOCK, partial=True))
                    block.rows.append(rows[place])
                    block.positions.append(positions[place])
        partial.extend(own.values())
    return [*whole.values(), *partial]


def _cut_blocks(position: int, window: int | None) -> set[int]:
    """Return the starts of the smallest blocks that a row at `position` attends to in part."""
    ends = [position + 1] if window is None else [position + 1, max(0, position + 1 - window)]
    return {end // BLOCK * BLOCK for end in ends if end % BLOCK}


def _by_size(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Yield groups of blocks of one size with similar numbers of readers; large ones are partial or not."""
    groups: dict[tuple[int, int, bool], list[_Block]] = {}
    for block in blocks:
        size = 1
        while size < len(block.rows):
            size *= _GROWTH
        groups.setdefault((block.size, size, block.partial and size > _SMALL), []).append(block)
    yield from groups.values()


def _pad_slots(blocks: Sequence[_Block], width: int) -> Slots:
    """Return the slots of blocks of one size, padded with the scratch slot."""
    slots = np.full((len(blocks), width), SCRATCH_SLOT, dtype=np.int64)
    for number, block in enumerate(blocks):
        slots[number, : len(block.slots)] = block.slots[:width]
    return slots.ravel()


def _index_queries(blocks: Sequence[_Block], size: int, rows: int, heads: Heads) -> Slots:
    """Return the index of `size` queries of each block for each key head, some of which only fill the tile."""
    queries = np.zeros((len(blocks), size, heads.keys), dtype=np.int64)
    head = np.arange(heads.queries).reshape(heads.keys, heads.shared).T * rows
    for number, block in enumerate(blocks):
        index = head + np.asarray(block.rows)[:, None, None]  # [readers, shared, key_heads]
        queries[number, : index.shape[0] * index.shape[1]] = index.reshape(-1, heads.keys)
    return queries.ravel()


def _bias(blocks: Sequence[_Block], size: int, width: int, window: int | None, heads: Heads) -> Tensor:
    bias = np.zeros((len(blocks), size, width), dtype=np.float32)
    lanes = np.arange(width)
    for number, block in enumerate(blocks):
        positions = np.repeat(block.positions, heads.shared)[:, None] - block.start
        masked = lanes > positions
        if window is not None:
            masked |= lanes <= positions - window
        bias[number, : len(masked)][masked] = -np.inf
    return torch.from_numpy(bias)[:, None]


def _index_parts(parts: Sequence[Sequence[_Part]], heads: Heads, device: torch.device) -> Parts:
    most = max(map(len, parts))
    first = np.zeros((len(parts), most), dtype=np.int64)
    absent = np.ones((len(parts), most), dtype=bool)
    for row, found in enumerate(parts):
        for number, part in enumerate(sorted(found)):
            first[row, number], absent[row, number] = part.first, False
    # Results are in order of place, of head within a key head's group, of key head.
    index = first[:, None, :] + np.arange(heads.queries).reshape(heads.shared, heads.keys).T.ravel()[:, None]
    missing = np.repeat(absent.T, heads.queries, axis=1)
    return Parts(
        torch.from_numpy(index.reshape(-1, most)).to(device),
        torch.from_numpy(missing).to(device) if absent.any() else None,
        torch.arange(0, index.size, most, device=device),
    )
