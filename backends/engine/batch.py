"""The packed step: which tokens run together, where their keys and values go, and who reads what."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from branchwise.backends.engine.branch import Branch, Input
from branchwise.backends.engine.hooks import Plan, Span
from branchwise.backends.engine.model import EngineModel
from branchwise.backends.engine.store import Node, Store


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a job's input to prefill in this step."""

    input: Input
    tokens: tuple[int, ...]


class Batch:
    """The running branches, and the table of the slots each of them reads."""

    def __init__(self, model: EngineModel, store: Store, rows: int) -> None:
        self.model = model
        self.store = store
        self.running: list[Branch] = []
        self._rows = list(range(rows - 1, -1, -1))
        self._table = torch.zeros(rows, 1024, dtype=torch.int64, device=store.device)

    @property
    def room(self) -> int:
        """How many more branches fit."""
        return len(self._rows)

    def join(self, branch: Branch, node: Node) -> None:
        """Start `branch` at `node`."""
        branch.row, branch.node = self._rows.pop(), node
        node.running += 1
        slots = self.store.slots_of(node)
        self._widen(len(slots))
        self._table[branch.row, : len(slots)] = torch.tensor(slots, dtype=torch.int64, device=self.store.device)
        self.running.append(branch)

    def leave(self, branch: Branch) -> None:
        """Take `branch` out; what it computed stays in the store."""
        if branch.row >= 0 and branch.node is not None:
            branch.node.running -= 1
            self._rows.append(branch.row)
            branch.row = -1
            self.running.remove(branch)

    def step(self, chunk: Chunk | None) -> Tensor:
        """Compute every pending token and the chunk. Logits [running (+ 1 with a chunk), vocabulary].

        Raises PoolFullError before anything is changed.
        """
        branches, extra = self.running, chunk.tokens if chunk else ()
        slots = self.store.allocate(len(branches) + len(extra))
        reused = self._existing_last(chunk) if chunk else None
        if reused is not None:
            self.store.free([slots[-1]])
            slots[-1] = reused.slot
        tokens = [b.pending for b in branches] + list(extra)
        starts = [b.node.depth for b in branches if b.node is not None]
        positions = starts + ([*range(chunk.input.done, chunk.input.done + len(extra))] if chunk else [])
        wanted = [*range(len(branches))] + ([len(tokens) - 1] if chunk else [])
        try:
            logits = self.model.step(tokens, positions, self._plan(slots, positions, chunk), wanted)
        except BaseException:
            self.store.free(slots if reused is None else slots[:-1])
            raise
        for branch, slot in zip(branches, slots, strict=False):
            self._advance(branch, slot)
        if chunk:
            self._insert(chunk, slots[len(branches) :])
        return logits

    def _plan(self, slots: Sequence[int], positions: Sequence[int], chunk: Chunk | None) -> Plan:
        device, count = self.store.device, len(self.running)
        written = torch.tensor(slots, dtype=torch.int64, device=device)
        lengths = torch.tensor(positions[:count], dtype=torch.int64, device=device) + 1
        longest = max(positions[:count], default=-1) + 1
        self._widen(longest)
        rows = torch.tensor([b.row for b in self.running], dtype=torch.int64, device=device)
        self._table[rows, lengths - 1] = written[:count]
        spans = []
        if chunk:
            before = self.store.slots_of(chunk.input.node)
            reads = torch.tensor(before, dtype=torch.int64, device=device)
            spans.append(Span(count, len(slots), torch.cat([reads, written[count:]])))
        return Plan(self.store, written, count, self._table[rows, :longest], lengths, spans)

    def _advance(self, branch: Branch, slot: int) -> None:
        """The pending token of `branch` is computed: it becomes a node."""
        assert branch.node is not None
        child = self.store.insert(branch.node, branch.pending, slot)
        if child.slot == slot:
            child.readable = True
        else:  # another branch computed the same prefix first
            self._table[branch.row, child.depth - 1] = child.slot
        branch.node.running -= 1
        child.running += 1
        branch.node = child

    def _insert(self, chunk: Chunk, slots: Sequence[int]) -> None:
        node = chunk.input.node
        node.running -= 1
        for token, slot in zip(chunk.tokens, slots, strict=True):
            node = self.store.insert(node, token, slot)
        node.readable = node.readable or node.slot == slots[-1]
        node.running += 1
        chunk.input.node = node

    def _existing_last(self, chunk: Chunk) -> Node | None:
        """The held node of a one-token chunk that is computed again only for its logits."""
        if len(chunk.tokens) != 1:
            return None
        return chunk.input.node.children.get(chunk.tokens[0])

    def _widen(self, length: int) -> None:
        if length > self._table.shape[1]:
            wider = torch.zeros(self._table.shape[0], 2 * length, dtype=torch.int64, device=self.store.device)
            wider[:, : self._table.shape[1]] = self._table
            self._table = wider
