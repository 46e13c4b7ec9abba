"""Plan of one packed step: its rows, the slot each row writes and the slots it reads.

The rows of decode sequences come first, each the last token of a branch and perhaps a draft tree after it. The rows of
spans follow: consecutive prompt tokens. Slots that several sequences read are read once for all of them (a segment).
The other slots of each sequence form one padded table (the tails), where a mask leaves each row its ancestors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import SCRATCH_SLOT, KVPool, SlotIndex, Slots, slot_array, slot_index
from branchwise.backends.engine.cache.node import RadixNode, TreePosition
from branchwise.backends.engine.model.tiles import Chain, Heads, Tiles, make_tiles

_MIN_SHARED_TOKENS = 768
"""Tokens that a segment must save its readers: it costs one more matrix product and a merge in every layer."""
_CHEAP_PADDING = 32
"""Padding slots of a row that cost less than another matrix product."""
_MIN_FILL = 0.7
"""Least share of a padded row that holds tokens, beyond the cheap padding."""

Mask = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


class DecodeSequence(NamedTuple):
    """The decode rows of one sequence: its last token, then the draft tree after it."""

    prefix: Sequence[TreePosition]  # nodes of the cached tokens before the rows
    slots: Sequence[int]  # [rows] slot that each row's keys and values are read from
    parents: Sequence[int] = (-1,)  # [rows] row that each row follows, always an earlier one

    @property
    def position(self) -> int:
        """Position of the first row's token."""
        return self.prefix[-1].depth if self.prefix else 0

    def depths(self) -> list[int]:
        """Return [rows] the distance of each row from the first one."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    def visible(self) -> Mask:
        """Return [rows, rows] True where a row attends to another: to its ancestors and itself."""
        visible = np.eye(len(self.slots), dtype=bool)
        for row, parent in enumerate(self.parents):
            if parent >= 0:
                visible[row] |= visible[parent]
        return visible


@dataclass(frozen=True, slots=True)
class Segment:
    """Slots that several sequences read together."""

    index: SlotIndex
    rows: Tensor | None  # [readers] decode rows that read it; None: all
    masked: Tensor | None = None  # [rows, slots] True where a row does not attend to a slot; None: nowhere


@dataclass(frozen=True, slots=True)
class Tails:
    """Slots that each of some sequences reads alone, padded to the longest one and to the most rows."""

    rows: Tensor | None  # [sequences * width] the decode rows of each; None: all, in order
    width: int  # rows of a sequence
    index: SlotIndex  # [sequences * longest] slots, padded with the scratch slot
    masked: Tensor | None  # [sequences, width, longest] True where a row does not attend to a slot; None: nowhere


@dataclass(frozen=True, slots=True)
class DecodeReads:
    """Everything that the decode rows read in a layer."""

    segments: Sequence[Segment]
    tails: Sequence[Tails]
    order: Tensor | None  # [rows] index of each decode row among the rows of all tails; None: in order


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive rows of one sequence. Each attends to the prefix and, causally, to the span."""

    start: int
    end: int
    prefix: SlotIndex | None  # None: the span starts the sequence
    own: SlotIndex

    @property
    def rows(self) -> int:
        return self.end - self.start


@dataclass(slots=True)
class Plan:
    """Slots that a packed step writes and reads."""

    pool: KVPool
    slot_mapping: SlotIndex  # [rows] slot that each row's keys and values are written to
    sequences: Sequence[DecodeSequence] = ()
    spans: Sequence[Span] = ()
    layer: int = -1  # set by the cache just before the attention function is called
    windows: set[int] = field(default_factory=set)
    """Sliding windows that layers passed to the attention function."""
    fixed_tiles: bool = False
    """True to compute attention in tiles of fixed size; set by the model, before its layers run."""
    decode_rows: int = field(init=False)
    """Number of rows of all sequences."""
    _reads: dict[int | None, DecodeReads] = field(default_factory=dict)
    _tiles: dict[tuple[int | None, Heads], Tiles] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decode_rows = sum(len(sequence.slots) for sequence in self.sequences)

    @classmethod
    def for_bucket(cls, pool: KVPool, slot_mapping: Tensor, rows: int, reads: DecodeReads) -> "Plan":
        """Return a plan of `rows` decode rows with given reads, for layers without a window."""
        return cls(pool, slot_mapping, [DecodeSequence((), (SCRATCH_SLOT,))] * rows, _reads={None: reads})

    def reads(self, window: int | None) -> DecodeReads:
        """Return the reads of the decode rows in a layer whose queries attend to `window` tokens (None: all)."""
        if window is not None:
            self.windows.add(window)
            if all(sequence.position + len(sequence.slots) <= window for sequence in self.sequences):
                window = None
        if window not in self._reads:
            self._reads[window] = _decode_reads(self.sequences, window, self.pool.device)
        return self._reads[window]

    def tiles(self, window: int | None, heads: Heads, dtype: torch.dtype) -> Tiles:
        """Return the tiles of all rows in a layer whose queries attend to `window` tokens (None: all).

        `dtype`: that of the queries.
        """
        if window is not None:
            self.windows.add(window)
        if (window, heads) not in self._tiles:
            chains = [*_chains(self.sequences), *map(_span_chain, self.spans)]
            if window is not None and all(len(chain.slots) <= window for chain in chains):
                self._tiles[window, heads] = self.tiles(None, heads, dtype)
                return self._tiles[window, heads]
            self._tiles[window, heads] = make_tiles(chains, window, heads, dtype, self.pool)
        return self._tiles[window, heads]


def prefix_slots(prefix: Sequence[TreePosition]) -> Slots:
    """Return the slots of a prefix, in order."""
    parts = [np.frombuffer(position.node.slots, dtype=np.int64)[: position.offset] for position in prefix]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class _Piece(NamedTuple):
    """The part of a node that a sequence reads."""

    node: RadixNode
    slots: Slots  # those that the sequence's first row attends to
    start: int  # position of the first of them
    whole: bool  # whether every row of the sequence attends to the whole node


def _pieces(sequence: DecodeSequence, window: int | None) -> Iterator[_Piece]:
    """Yield the parts of its prefix that a sequence reads."""
    first = 0 if window is None else sequence.position + 1 - window
    # The first position that the deepest row attends to.
    last = first if len(sequence.slots) == 1 else first + max(sequence.depths())
    for node, offset in sequence.prefix:
        skipped = max(0, first - node.start)
        if skipped < offset:
            slots = np.frombuffer(node.slots, dtype=np.int64)[skipped:offset]
            whole = offset == len(node) and (window is None or last <= node.start)
            yield _Piece(node, slots, node.start + skipped, whole)


def _shared_nodes(pieces: Sequence[Sequence[_Piece]]) -> dict[RadixNode, list[int]]:
    """Return the nodes to read as segments, with the sequences that read each."""
    readers: dict[RadixNode, list[int]] = {}
    for number, sequence_pieces in enumerate(pieces):
        for piece in sequence_pieces:
            if piece.whole:
                readers.setdefault(piece.node, []).append(number)
    return {node: numbers for node, numbers in readers.items() if is_worth_sharing(node, len(numbers))}


def is_worth_sharing(node: RadixNode, readers: int) -> bool:
    """Return whether a node that `readers` sequences read whole becomes a segment."""
    return (readers - 1) * len(node.slots) >= _MIN_SHARED_TOKENS


class _Tail(NamedTuple):
    """The slots that a sequence reads alone: pieces outside all segments, then its own rows."""

    sequence: DecodeSequence
    rows: Sequence[int]  # of the step
    pieces: Sequence[_Piece]
    length: int

    def slots(self) -> Slots:
        own = np.asarray(self.sequence.slots, dtype=np.int64)
        return np.concatenate([*(piece.slots for piece in self.pieces), own])

    def masked(self, window: int | None) -> Mask:
        """Return [rows, length] True where a row does not attend to a slot."""
        own = len(self.sequence.slots)
        masked = np.zeros((own, self.length), dtype=bool)
        masked[:, self.length - own :] = ~self.sequence.visible()
        if window is not None and own > 1:
            parts = [np.arange(piece.start, piece.start + len(piece.slots)) for piece in self.pieces]
            depths = np.asarray(self.sequence.depths())
            positions = np.concatenate([*parts, self.sequence.position + depths])
            masked |= positions <= (self.sequence.position + depths)[:, None] - window
        return masked


def _decode_reads(sequences: Sequence[DecodeSequence], window: int | None, device: torch.device) -> DecodeReads:
    pieces = [list(_pieces(sequence, window)) for sequence in sequences]
    shared = _shared_nodes(pieces)
    starts = list(accumulate((len(sequence.slots) for sequence in sequences), initial=0))
    rows = [range(start, end) for start, end in pairwise(starts)]
    segments = []
    for node, readers in shared.items():
        index = slot_index(np.frombuffer(node.slots, dtype=np.int64), device)
        reading = [row for number in readers for row in rows[number]]
        segments.append(Segment(index, None if len(reading) == starts[-1] else torch.tensor(reading, device=device)))
    tails = []
    for sequence, sequence_rows, sequence_pieces in zip(sequences, rows, pieces, strict=True):
        private = [piece for piece in sequence_pieces if not (piece.whole and piece.node in shared)]
        length = sum(len(piece.slots) for piece in private) + len(sequence.slots)
        tails.append(_Tail(sequence, sequence_rows, private, length))
    return _group_by_length(tails, window, segments, device)


def _group_by_length(
    tails: Sequence[_Tail], window: int | None, segments: Sequence[Segment], device: torch.device
) -> DecodeReads:
    """Return the reads, with tails of similar length in one table: padding is read, too."""
    groups: list[list[_Tail]] = []
    for tail in sorted(tails, key=lambda tail: -tail.length):
        if groups and tail.length + _CHEAP_PADDING >= _MIN_FILL * groups[-1][0].length:
            groups[-1].append(tail)
        else:
            groups.append([tail])
    if len(groups) == 1:
        groups = [list(tails)]  # without drafts, the rows are then in order
    tables, order = [], []
    for group in groups:
        width = max(len(tail.rows) for tail in group)
        for tail in group:
            order.extend([*tail.rows, *[-1] * (width - len(tail.rows))])
        tables.append(_pad(group, width, window, device))
    if len(groups) == 1 and order == list(range(len(order))):
        return DecodeReads(segments, [replace(tables[0], rows=None)], None)
    index = np.empty(max(order) + 1, dtype=np.int64)
    rows = np.asarray(order)
    index[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    return DecodeReads(segments, tables, torch.from_numpy(index).to(device))


def _pad(tails: Sequence[_Tail], width: int, window: int | None, device: torch.device) -> Tails:
    """Return one table of the tails. A sequence with fewer than `width` rows repeats its first one."""
    longest = max(tail.length for tail in tails)
    table = np.full((len(tails), longest), SCRATCH_SLOT, dtype=np.int64)
    masked = np.ones((len(tails), width, longest), dtype=bool)
    rows: list[int] = []
    for i, tail in enumerate(tails):
        table[i, : tail.length] = tail.slots()
        rows.extend([*tail.rows, *[tail.rows[0]] * (width - len(tail.rows))])
        if width == 1:
            masked[i, 0, : tail.length] = False
        else:
            masked[i, : len(tail.rows), : tail.length] = tail.masked(window)
            masked[i, len(tail.rows) :] = masked[i, 0]
    mask = torch.from_numpy(masked).to(device) if masked.any() else None
    return Tails(torch.tensor(rows, device=device), width, slot_index(table.ravel(), device), mask)


def _chains(sequences: Sequence[DecodeSequence]) -> Iterator[Chain]:
    """Yield the rows of each sequence as one chain, those of a draft tree as one chain for each leaf."""
    start = 0
    for prefix, slots, parents in sequences:
        cached, own = prefix_slots(prefix), np.asarray(slots, dtype=np.int64)
        seen: set[int] = set()
        for leaf in sorted(set(range(len(slots))).difference(parents)):
            rows = [leaf]
            while parents[rows[-1]] >= 0:
                rows.append(parents[rows[-1]])
            rows.reverse()
            new = [depth for depth, row in enumerate(rows) if row not in seen]
            seen.update(rows)
            path = np.concatenate([cached, own[rows]])
            yield Chain(path, [start + rows[depth] for depth in new], [len(cached) + depth for depth in new])
        start += len(slots)


def _span_chain(span: Span) -> Chain:
    parts = [slot_array(index) for index in (span.prefix, span.own) if index is not None]
    slots = np.concatenate(parts)
    return Chain(slots, range(span.start, span.end), range(len(slots) - span.rows, len(slots)))
