"""Recurrent state: what a layer remembers of a whole path in a fixed number of bytes, however long the path is.

Unlike keys and values, state can't be cut: it is known only where somebody stands, and where a snapshot
was kept. A fork is one more reference to a row; rows are copied when a step needs them side by side.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(slots=True, eq=False)
class States:
    """The states of several rows, one tensor for each that the layers keep."""

    tensors: list[Tensor]  # each [rows, ...]
    fleeting: bool  # whether the next step may overwrite them

    @property
    def rows(self) -> int:
        return self.tensors[0].shape[0]

    def bytes(self) -> int:
        """Of one row."""
        return sum(tensor[0].numel() * tensor.element_size() for tensor in self.tensors)


class State(NamedTuple):
    """One row of states."""

    states: States
    row: int

    def kept(self) -> "State":
        """A copy that no step overwrites."""
        tensors = [tensor[self.row : self.row + 1].clone() for tensor in self.states.tensors]
        return State(States(tensors, fleeting=False), 0)


def side_by_side(sources: Sequence[State]) -> States:
    """The given rows as a batch that may be overwritten; without a copy where they are one already."""
    first = sources[0].states
    if all(source.states is first for source in sources):
        rows = [source.row for source in sources]
        if first.fleeting and rows == list(range(first.rows)):
            return first
        index = torch.tensor(rows, device=first.tensors[0].device)
        return States([tensor.index_select(0, index) for tensor in first.tensors], fleeting=True)
    columns = zip(*([tensor[s.row : s.row + 1] for tensor in s.states.tensors] for s in sources), strict=True)
    return States([torch.cat(column) for column in columns], fleeting=True)


@dataclass(slots=True, eq=False)
class Snapshot:
    """The state behind a held token, and what the output head read there."""

    state: State | None  # None once it was given up
    hidden: Tensor  # [1, hidden_size]


class Snapshots:
    """Snapshots by age of use; the oldest are given up beyond `most`."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._kept: OrderedDict[Snapshot, None] = OrderedDict()

    def add(self, state: State, hidden: Tensor) -> Snapshot:
        snapshot = Snapshot(state.kept(), hidden.clone())
        self._kept[snapshot] = None
        for old in [old for old in self._kept if old.state is None]:  # its token was given up
            del self._kept[old]
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)[0].state = None
        return snapshot

    def use(self, snapshot: Snapshot) -> State | None:
        """Its state; None once it was given up."""
        if snapshot.state is not None:
            self._kept.move_to_end(snapshot)
        return snapshot.state
