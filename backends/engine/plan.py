"""The plan of one packed step: which rows there are, where each writes, and what each reads.

First come the decoding rows, one token of one or more branches each, then the spans of prompts. What
several decoding rows have in common is read once for all of them (a segment); what is their own is
gathered into one padded table (the tails).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from branchwise.backends.engine.pool import TRASH, Index, Pool
from branchwise.backends.engine.runs import Place, Run

# A segment costs one more product and a merge in every layer; that pays from so many gathered tokens on.
_WORTH_A_SEGMENT = 768
_WORTH_PADDING = 32  # so many padded slots a row cost less than another product

Slots = np.ndarray[tuple[int], np.dtype[np.int64]]


class Row(NamedTuple):
    """A decoding row: the tokens before it, and its own slot to read."""

    before: Sequence[Place]
    own: int

    @property
    def position(self) -> int:
        """Tokens before its own."""
        return self.before[-1].depth if self.before else 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Slots that several rows read together."""

    index: Index
    rows: Tensor | None  # [some] of the decoding rows; None: all
    hidden: Tensor | None = None  # [rows, slots] True where a row does not see a slot; None: it sees all


@dataclass(frozen=True, slots=True)
class Tails:
    """What some rows read each for itself, padded to the longest of them."""

    rows: Tensor | None  # [some] of the decoding rows; None: all, in order
    index: Index  # [some * longest] slots, padded with the trash slot
    hidden: Tensor | None  # [some, longest] True at the padding; None without any


@dataclass(frozen=True, slots=True)
class Reads:
    """What the decoding rows read under one window."""

    segments: Sequence[Segment]
    tails: Sequence[Tails]
    order: Tensor | None  # [rows] where each row is among the tails; None: in order


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
    rows: Sequence[Row] = ()
    spans: Sequence[Span] = ()
    layer: int = -1  # set by the cache just before the attention function is called
    windows: set[int] = field(default_factory=set)
    """The sliding windows that layers asked for."""
    _reads: dict[int | None, Reads] = field(default_factory=dict)

    @classmethod
    def fixed(cls, pool: Pool, written: Tensor, rows: int, reads: Reads) -> "Plan":
        """A plan of so many decoding rows that reads what it is told, whatever the window."""
        return cls(pool, written, [Row((), TRASH)] * rows, _reads={None: reads})

    def reads(self, window: int | None) -> Reads:
        """What the decoding rows read in a layer whose queries see `window` tokens (None: all)."""
        if window is not None:
            self.windows.add(window)
            if all(row.position < window for row in self.rows):
                window = None
        if window not in self._reads:
            self._reads[window] = _reads(self.rows, window, self.pool.device)
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


def _reads(rows: Sequence[Row], window: int | None, device: torch.device) -> Reads:
    pieces = [list(pieces_of(row, window)) for row in rows]
    shared = shared_runs(pieces)
    segments = []
    for run, readers in shared.items():
        index = index_of(np.frombuffer(run.slots, dtype=np.int64), device)
        everyone = len(readers) == len(rows)
        segments.append(Segment(index, None if everyone else torch.tensor(readers, device=device)))
    tails = [
        [*(p.slots for p in row_pieces if not (p.whole and p.run in shared)), np.array([row.own])]
        for row, row_pieces in zip(rows, pieces, strict=True)
    ]
    return _by_length([np.concatenate(tail) for tail in tails], segments, device)


class Piece(NamedTuple):
    """A part of what a row reads."""

    run: Run
    slots: Slots  # what the row sees of it
    whole: bool


def pieces_of(row: Row, window: int | None) -> Iterator[Piece]:
    """What a row sees of each run before it."""
    first = 0 if window is None else row.position + 1 - window
    for run, offset in row.before:
        skipped = max(0, first - run.start)
        if skipped < offset:
            slots = np.frombuffer(run.slots, dtype=np.int64)[skipped:offset]
            yield Piece(run, slots, len(slots) == len(run))


def shared_runs(pieces: Sequence[Sequence[Piece]]) -> dict[Run, list[int]]:
    """The runs worth a segment, and the rows that read each whole."""
    readers: dict[Run, list[int]] = {}
    for row, row_pieces in enumerate(pieces):
        for piece in row_pieces:
            if piece.whole:
                readers.setdefault(piece.run, []).append(row)
    return {run: rows for run, rows in readers.items() if (len(rows) - 1) * len(run) >= _WORTH_A_SEGMENT}


def _by_length(tails: Sequence[Slots], segments: Sequence[Segment], device: torch.device) -> Reads:
    """Tails of about one length together: a step reads the padding, too."""
    order = sorted(range(len(tails)), key=lambda row: -len(tails[row]))
    groups: list[list[int]] = []
    for row in order:
        if groups and len(tails[row]) + _WORTH_PADDING >= 0.7 * len(tails[groups[-1][0]]):
            groups[-1].append(row)
        else:
            groups.append([row])
    if len(groups) == 1:
        return Reads(segments, [_padded(tails, None, device)], None)
    parts = [_padded([tails[row] for row in group], torch.tensor(group, device=device), device) for group in groups]
    return Reads(segments, parts, torch.tensor(order, device=device).argsort())


def _padded(tails: Sequence[Slots], rows: Tensor | None, device: torch.device) -> Tails:
    lengths = np.array([len(tail) for tail in tails])
    longest = int(lengths.max())
    table = np.full((len(tails), longest), TRASH, dtype=np.int64)
    for row, tail in enumerate(tails):
        table[row, : len(tail)] = tail
    hidden = None
    if (lengths < longest).any():
        hidden = torch.from_numpy(np.arange(longest) >= lengths[:, None]).to(device)
    return Tails(rows, index_of(table.ravel(), device), hidden)
