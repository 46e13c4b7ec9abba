"""The plan of one packed step: which rows there are, where each writes, and what each reads.

First come the decoding rows: the tips of paths, each a token and maybe a tree of drafts behind it. Then
come the spans of prompts. What several tips have in common is read once for all of them (a segment);
what is a tip's own is gathered into one padded table (the tails), where a mask leaves each row its
ancestors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import TRASH, Index, Pool
from branchwise.backends.engine.cache.node import Place, Run

# A segment costs one more product and a merge in every layer; that pays from so many gathered tokens on.
_WORTH_A_SEGMENT = 768
_WORTH_PADDING = 32  # so many padded slots a row cost less than another product

Slots = np.ndarray[tuple[int], np.dtype[np.int64]]
Mask = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


class Tip(NamedTuple):
    """The end of a path: its last token, and the drafts behind it. Each is a decoding row."""

    before: Sequence[Place]
    slots: Sequence[int]  # [rows] where what each row computes is read; the path's last token first
    parents: Sequence[int] = (-1,)  # [rows] which of these rows each follows; before itself

    @property
    def position(self) -> int:
        """Tokens before its first."""
        return self.before[-1].depth if self.before else 0

    def depths(self) -> list[int]:
        """[rows] tokens between the path and each row."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    def sight(self) -> Mask:
        """[rows, rows] True where a row sees another: its ancestors and itself."""
        seen = np.eye(len(self.slots), dtype=bool)
        for row, parent in enumerate(self.parents):
            if parent >= 0:
                seen[row] |= seen[parent]
        return seen


@dataclass(frozen=True, slots=True)
class Segment:
    """Slots that several tips read together."""

    index: Index
    rows: Tensor | None  # [some] of the decoding rows; None: all
    hidden: Tensor | None = None  # [rows, slots] True where a row does not see a slot; None: it sees all


@dataclass(frozen=True, slots=True)
class Tails:
    """What some tips read each for itself, padded to the longest and the one of most rows."""

    rows: Tensor | None  # [some * widest] the decoding rows of each; None: all, in order
    widest: int  # rows of a tip
    index: Index  # [some * longest] slots, padded with the trash slot
    hidden: Tensor | None  # [some, widest, longest] True where a row does not see a slot; None: it sees all


@dataclass(frozen=True, slots=True)
class Reads:
    """What the decoding rows read under one window."""

    segments: Sequence[Segment]
    tails: Sequence[Tails]
    order: Tensor | None  # [rows] where each row is among those of the tails; None: in order


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive rows of one prompt: they read what is before them, and each other up to themselves."""

    start: int
    end: int
    before: Index | None  # None: the prompt's first tokens
    own: Index

    @property
    def rows(self) -> int:
        return self.end - self.start


@dataclass(slots=True)
class Plan:
    """Who writes and reads what in one packed step."""

    pool: Pool
    written: Index  # [rows] where each row's keys and values go
    tips: Sequence[Tip] = ()
    spans: Sequence[Span] = ()
    layer: int = -1  # set by the cache just before the attention function is called
    windows: set[int] = field(default_factory=set)
    """The sliding windows that layers asked for."""
    decoding: int = field(init=False)
    """How many decoding rows there are."""
    _reads: dict[int | None, Reads] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decoding = sum(len(tip.slots) for tip in self.tips)

    @classmethod
    def fixed(cls, pool: Pool, written: Tensor, rows: int, reads: Reads) -> "Plan":
        """A plan of so many decoding rows that reads what it is told, whatever the window."""
        return cls(pool, written, [Tip((), (TRASH,))] * rows, _reads={None: reads})

    def reads(self, window: int | None) -> Reads:
        """What the decoding rows read in a layer whose queries see `window` tokens (None: all)."""
        if window is not None:
            self.windows.add(window)
            if all(tip.position + len(tip.slots) <= window for tip in self.tips):
                window = None
        if window not in self._reads:
            self._reads[window] = _reads(self.tips, window, self.pool.device)
        return self._reads[window]


def index_of(slots: "Sequence[int] | Slots", device: torch.device) -> Index:
    """The slots as a slice where they are consecutive, else as a tensor."""
    array = np.asarray(slots, dtype=np.int64)
    if len(array) and array[-1] - array[0] == len(array) - 1 and bool((np.diff(array) == 1).all()):
        return slice(int(array[0]), int(array[-1]) + 1)
    return torch.from_numpy(array.copy()).to(device)


def slots_before(places: Sequence[Place]) -> Slots:
    """The slots of a path, in order."""
    parts = [np.frombuffer(place.run.slots, dtype=np.int64)[: place.offset] for place in places]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class Piece(NamedTuple):
    """A part of what a tip reads."""

    run: Run
    slots: Slots  # what its first row sees of it
    start: int  # the position of the first
    whole: bool  # whether every row of the tip sees all of the run


def pieces_of(tip: Tip, window: int | None) -> Iterator[Piece]:
    """What a tip reads of each run before it."""
    first = 0 if window is None else tip.position + 1 - window
    last = first if len(tip.slots) == 1 else first + max(tip.depths())  # the first position its deepest row sees
    for run, offset in tip.before:
        skipped = max(0, first - run.start)
        if skipped < offset:
            slots = np.frombuffer(run.slots, dtype=np.int64)[skipped:offset]
            whole = offset == len(run) and (window is None or last <= run.start)
            yield Piece(run, slots, run.start + skipped, whole)


def shared_runs(pieces: Sequence[Sequence[Piece]]) -> dict[Run, list[int]]:
    """The runs worth a segment, and the tips that read each whole."""
    readers: dict[Run, list[int]] = {}
    for tip, tip_pieces in enumerate(pieces):
        for piece in tip_pieces:
            if piece.whole:
                readers.setdefault(piece.run, []).append(tip)
    return {run: tips for run, tips in readers.items() if worth_a_segment(run, len(tips))}


def worth_a_segment(run: Run, readers: int) -> bool:
    """Whether a run that so many tips read whole is read once for all of them."""
    return (readers - 1) * len(run.slots) >= _WORTH_A_SEGMENT


class _Tail(NamedTuple):
    """What a tip reads for itself: the pieces that are in no segment, then its own rows."""

    tip: Tip
    rows: Sequence[int]  # of the step
    pieces: Sequence[Piece]
    length: int

    def slots(self) -> Slots:
        return np.concatenate([*(piece.slots for piece in self.pieces), np.asarray(self.tip.slots, dtype=np.int64)])

    def hidden(self, window: int | None) -> Mask:
        """[rows, length]"""
        own = len(self.tip.slots)
        hidden = np.zeros((own, self.length), dtype=bool)
        hidden[:, self.length - own :] = ~self.tip.sight()
        if window is not None and own > 1:
            parts = [np.arange(piece.start, piece.start + len(piece.slots)) for piece in self.pieces]
            depths = np.asarray(self.tip.depths())
            positions = np.concatenate([*parts, self.tip.position + depths])
            hidden |= positions <= (self.tip.position + depths)[:, None] - window
        return hidden


def _reads(tips: Sequence[Tip], window: int | None, device: torch.device) -> Reads:
    pieces = [list(pieces_of(tip, window)) for tip in tips]
    shared = shared_runs(pieces)
    starts = list(accumulate((len(tip.slots) for tip in tips), initial=0))
    rows = [range(start, end) for start, end in pairwise(starts)]
    segments = []
    for run, readers in shared.items():
        index = index_of(np.frombuffer(run.slots, dtype=np.int64), device)
        reading = [row for tip in readers for row in rows[tip]]
        segments.append(Segment(index, None if len(reading) == starts[-1] else torch.tensor(reading, device=device)))
    tails = []
    for tip, tip_rows, tip_pieces in zip(tips, rows, pieces, strict=True):
        left = [piece for piece in tip_pieces if not (piece.whole and piece.run in shared)]
        tails.append(_Tail(tip, tip_rows, left, sum(len(piece.slots) for piece in left) + len(tip.slots)))
    return _by_length(tails, window, segments, device)


def _by_length(tails: Sequence[_Tail], window: int | None, segments: Sequence[Segment], device: torch.device) -> Reads:
    """Tails of about one length together: a step reads the padding, too."""
    groups: list[list[_Tail]] = []
    for tail in sorted(tails, key=lambda tail: -tail.length):
        if groups and tail.length + _WORTH_PADDING >= 0.7 * groups[-1][0].length:
            groups[-1].append(tail)
        else:
            groups.append([tail])
    if len(groups) == 1:
        groups = [list(tails)]  # in order, as far as there are no drafts
    parts, order = [], []
    for group in groups:
        widest = max(len(tail.rows) for tail in group)
        for tail in group:
            order.extend([*tail.rows, *[-1] * (widest - len(tail.rows))])
        parts.append(_padded(group, widest, window, device))
    if len(groups) == 1 and order == list(range(len(order))):
        return Reads(segments, [replace(parts[0], rows=None)], None)
    place = np.empty(max(order) + 1, dtype=np.int64)
    at = np.asarray(order)
    place[at[at >= 0]] = np.flatnonzero(at >= 0)
    return Reads(segments, parts, torch.from_numpy(place).to(device))


def _padded(tails: Sequence[_Tail], widest: int, window: int | None, device: torch.device) -> Tails:
    """One table of them; rows that a tip lacks repeat its first."""
    longest = max(tail.length for tail in tails)
    table = np.full((len(tails), longest), TRASH, dtype=np.int64)
    hidden = np.ones((len(tails), widest, longest), dtype=bool)
    rows: list[int] = []
    for i, tail in enumerate(tails):
        table[i, : tail.length] = tail.slots()
        rows.extend([*tail.rows, *[tail.rows[0]] * (widest - len(tail.rows))])
        if widest == 1:
            hidden[i, 0, : tail.length] = False
        else:
            hidden[i, : len(tail.rows), : tail.length] = tail.hidden(window)
            hidden[i, len(tail.rows) :] = hidden[i, 0]
    mask = torch.from_numpy(hidden).to(device) if hidden.any() else None
    return Tails(torch.tensor(rows, device=device), widest, index_of(table.ravel(), device), mask)
