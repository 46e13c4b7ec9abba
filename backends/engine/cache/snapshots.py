"""Recurrent state: fixed-size layer state after a prefix, and an LRU cache of snapshots of it.

Unlike keys and values, state cannot be truncated: it is known only at the cursors of branches and at snapshots. A fork
is one more reference to a row; rows are copied when a step needs them in one batch.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(slots=True, eq=False)
class States:
    """Recurrent states of a batch of rows."""

    tensors: list[Tensor]  # one for each state that the layers keep, [rows, ...]
    overwritable: bool  # whether the next step may update the tensors in place

    @property
    def rows(self) -> int:
        return self.tensors[0].shape[0]

    def row_bytes(self) -> int:
        """Return the bytes of one row."""
        return sum(tensor[0].numel() * tensor.element_size() for tensor in self.tensors)


class State(NamedTuple):
    """One row of a batch of states."""

    states: States
    row: int

    def copy(self) -> "State":
        """Return a copy that no step overwrites."""
        tensors = [tensor[self.row : self.row + 1].clone() for tensor in self.states.tensors]
        return State(States(tensors, overwritable=False), 0)


def batch_states(rows: Sequence[State]) -> States:
    """Return the rows as one batch that may be overwritten. Copies nothing when they already form one."""
    first = rows[0].states
    if all(state.states is first for state in rows):
        numbers = [state.row for state in rows]
        if first.overwritable and numbers == list(range(first.rows)):
            return first
        index = torch.tensor(numbers, device=first.tensors[0].device)
        return States([tensor.index_select(0, index) for tensor in first.tensors], overwritable=True)
    columns = zip(*([tensor[s.row : s.row + 1] for tensor in s.states.tensors] for s in rows), strict=True)
    return States([torch.cat(column) for column in columns], overwritable=True)


@dataclass(slots=True, eq=False)
class Snapshot:
    """The recurrent state after a cached token, and the output head's input there."""

    state: State | None  # None after eviction
    hidden: Tensor  # [1, hidden_size]


class SnapshotCache:
    """Snapshots in order of use. The least recently used ones beyond the capacity lose their state."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: number of snapshots, raised to 1 if smaller."""
        self.capacity = max(1, capacity)
        self._snapshots: OrderedDict[Snapshot, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._snapshots)

    def states(self) -> list[State]:
        """Return the states of all snapshots that still have one."""
        return [snapshot.state for snapshot in self._snapshots if snapshot.state is not None]

    def add(self, state: State, hidden: Tensor) -> Snapshot:
        """Copy a state into a new snapshot and evict the least recently used ones."""
        snapshot = Snapshot(state.copy(), hidden.clone())
        self._snapshots[snapshot] = None
        for old in [old for old in self._snapshots if old.state is None]:  # the tree evicted its token
            del self._snapshots[old]
        while len(self._snapshots) > self.capacity:
            self._snapshots.popitem(last=False)[0].state = None
        return snapshot

    def use(self, snapshot: Snapshot) -> State | None:
        """Return the snapshot's state, or None after eviction, and mark it as most recently used."""
        if snapshot.state is not None:
            self._snapshots.move_to_end(snapshot)
        return snapshot.state
