"""Tiles of a packed step: attention whose rounding depends on a path alone, not on what else is computed or cached.

The positions of a path are divided into blocks of `BLOCK`, counted from its start, and a tile is `QUERIES` queries over
one block. Every matrix product then has the same size whatever the step's rows are. A block that several rows read is
read once for all of them. The attention merges the blocks of each row in order of position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import SCRATCH_SLOT, Slots

BLOCK = 64
"""Positions of a block."""
_UNIT = 4  # queries of a tile are padded to a multiple: kernels round the last one to three queries in another way
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
    """The tiles of one call: `blocks` blocks with equally many tiles for each key head."""

    blocks: int
    slots: Tensor  # [blocks * BLOCK], padded with the scratch slot; never a slice, which kernels may find unaligned
    queries: Tensor  # [blocks * key_heads * size] index among the queries [heads * rows]
    bias: Tensor | None  # [blocks, 1, size, BLOCK] -inf where a query does not attend, else 0


class Tiles(NamedTuple):
    """The tiles of a step, and the places of their results."""

    groups: Sequence[TileGroup]
    parts: Tensor  # [blocks, rows * heads] index among the results of all groups, in order of position
    absent: Tensor | None  # [blocks, rows * heads] True where a row reads fewer blocks; None: nowhere


@dataclass(slots=True, eq=False)
class _Block:
    """A block of keys and the rows that read it."""

    slots: Slots  # at most BLOCK
    start: int  # position of the first slot
    partial: bool  # whether a row does not attend to some of it
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)  # [rows]


class _Part(NamedTuple):
    """The results of a row in one block, those of its first head for each key head next to each other."""

    start: int  # position of the block
    first: int  # index among the results


def make_tiles(
    chains: Sequence[Chain], window: int | None, heads: Heads, dtype: torch.dtype, device: torch.device
) -> Tiles:
    """Return the tiles of all chains in layers whose queries attend to `window` positions (None: all).

    `dtype`: that of the queries.
    """
    count = sum(len(chain.rows) for chain in chains)
    parts: list[list[_Part]] = [[] for _ in range(count)]
    groups: list[TileGroup] = []
    first = 0
    for blocks in _by_size(_blocks(chains, window)):
        size = -(-max(len(block.rows) for block in blocks) * heads.shared // _UNIT) * _UNIT
        groups.append(_group(blocks, size, count, heads, device))
        if any(block.partial for block in blocks):
            groups[-1] = groups[-1]._replace(bias=_bias(blocks, size, window, heads).to(device, dtype))
        for block in blocks:
            for place, row in enumerate(block.rows):
                parts[row].append(_Part(block.start, first + place * heads.queries))
            first += heads.keys * size
    return Tiles(groups, *_index_parts(parts, heads, device))


def _blocks(chains: Sequence[Chain], window: int | None) -> list[_Block]:
    """Return the blocks that some rows read whole, once for all paths, and those read in part, once for each chain."""
    whole: dict[int, _Block] = {}  # by last slot: its token has only one path before it
    partial: list[_Block] = []
    for slots, rows, positions in chains:
        seen = 0 if window is None else max(0, positions[0] + 1 - window)
        for start in range(seen // BLOCK * BLOCK, positions[-1] + 1, BLOCK):
            end = start + BLOCK
            own = _Block(slots[start:end], start, partial=True)
            for row, position in zip(rows, positions, strict=True):
                lowest = 0 if window is None else position + 1 - window
                if position < start or end <= lowest:
                    continue
                is_whole = lowest <= start and end <= position + 1
                block = own
                if is_whole:
                    last = int(slots[end - 1])
                    key = last if last != SCRATCH_SLOT else -1 - len(whole)  # a measured step reads nothing else
                    block = whole.setdefault(key, _Block(own.slots, start, partial=False))
                block.rows.append(row)
                block.positions.append(position)
            if own.rows:
                partial.append(own)
    return [*whole.values(), *partial]


def _by_size(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Yield groups of blocks with similar numbers of readers; large ones are partial or not."""
    groups: dict[tuple[int, bool], list[_Block]] = {}
    for block in blocks:
        size = 1
        while size < len(block.rows):
            size *= _GROWTH
        groups.setdefault((size, block.partial and size > _SMALL), []).append(block)
    yield from groups.values()


def _group(blocks: Sequence[_Block], size: int, rows: int, heads: Heads, device: torch.device) -> TileGroup:
    """Return a group without a mask. It has `size` queries for each block and key head, which some only fill."""
    slots = np.full((len(blocks), BLOCK), SCRATCH_SLOT, dtype=np.int64)
    queries = np.zeros((len(blocks), heads.keys, size), dtype=np.int64)
    head = np.arange(heads.queries).reshape(heads.keys, 1, heads.shared) * rows
    for number, block in enumerate(blocks):
        slots[number, : len(block.slots)] = block.slots
        index = head + np.asarray(block.rows)[:, None]  # [key_heads, readers, shared]
        queries[number, :, : index.shape[1] * index.shape[2]] = index.reshape(heads.keys, -1)
    return TileGroup(
        len(blocks), torch.from_numpy(slots.ravel()).to(device), torch.from_numpy(queries.ravel()).to(device), None
    )


def _bias(blocks: Sequence[_Block], size: int, window: int | None, heads: Heads) -> Tensor:
    bias = np.zeros((len(blocks), size, BLOCK), dtype=np.float32)
    lanes = np.arange(BLOCK)
    for number, block in enumerate(blocks):
        positions = np.repeat(block.positions, heads.shared)[:, None] - block.start
        masked = lanes > positions
        if window is not None:
            masked |= lanes <= positions - window
        bias[number, : len(masked)][masked] = -np.inf
    return torch.from_numpy(bias)[:, None]


def _index_parts(parts: Sequence[Sequence[_Part]], heads: Heads, device: torch.device) -> tuple[Tensor, Tensor | None]:
    most = max(map(len, parts))
    first = np.zeros((most, len(parts)), dtype=np.int64)
    absent = np.ones((most, len(parts)), dtype=bool)
    for row, found in enumerate(parts):
        for number, part in enumerate(sorted(found)):
            first[number, row], absent[number, row] = part.first, False
    # Results are in order of place, of head within a key head's group, of key head.
    index = first[:, :, None] + np.arange(heads.queries).reshape(heads.shared, heads.keys).T.ravel()
    missing = np.repeat(absent, heads.queries, axis=1)
    return (
        torch.from_numpy(index.reshape(most, -1)).to(device),
        torch.from_numpy(missing).to(device) if absent.any() else None,
    )
