"""The running branches, and the packed pass that computes the next token of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from branchwise.backends.engine.jobs import Job, LiveBranch
from branchwise.backends.engine.model import EngineModel, Output
from branchwise.backends.engine.plan import Plan, Row, Span, index_of, slots_before
from branchwise.backends.engine.pool import TRASH, Pool
from branchwise.backends.engine.runs import Cursor
from branchwise.backends.engine.tree import TokenTree


class PoolFullError(Exception):
    """Every slot holds a token somebody stands on or behind."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a job's tokens to compute in this pass: the next ones after its cursor."""

    job: Job
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a packed pass computed."""

    logits: Tensor  # [rows, vocabulary]
    branches: Sequence[LiveBranch]
    rows: Sequence[int]  # [branches] the row of each branch's logits
    chunks: Sequence[int]  # [chunks] the row of the logits after each chunk


@dataclass(slots=True)
class _Group:
    """Branches that drew the same token after the same tokens: one row computes it for all of them."""

    branches: list[LiveBranch]
    slot: int = TRASH
    held: bool = False


class Batch:
    """The running branches. Owned by the step loop."""

    def __init__(self, model: EngineModel, tree: TokenTree, pool: Pool, most: int) -> None:
        self.model, self.tree, self.pool, self.most = model, tree, pool, most
        self.running: list[LiveBranch] = []

    @property
    def room(self) -> int:
        """How many more branches fit."""
        return self.most - len(self.running)

    def step(self, chunks: Sequence[Chunk]) -> Pass:
        """Compute the last drawn token of every branch, and the chunks, in one pass.

        Raises PoolFullError before anything is changed; nothing is changed by any other error either.
        """
        groups = self._groups()
        slots = self.tree.allocate(len(groups) + sum(len(chunk.tokens) for chunk in chunks))
        if slots is None:
            raise PoolFullError
        try:
            done = self._compute(groups, chunks, slots)
        except BaseException:
            self.tree.free(slots)
            raise
        self.tree.free(self._commit(groups, chunks, slots))
        return done

    def _groups(self) -> list[_Group]:
        groups: dict[tuple[int, int, int], _Group] = {}
        for branch in self.running:
            cursor = _cursor(branch)
            place = (id(cursor.run), cursor.offset, branch.drawn[-1])
            groups.setdefault(place, _Group([])).branches.append(branch)
        return list(groups.values())

    def _compute(self, groups: Sequence[_Group], chunks: Sequence[Chunk], slots: Sequence[int]) -> Pass:
        tree, device = self.tree, self.pool.device
        tokens, positions, written, rows, spans = [], [], [], [], []
        for group, slot in zip(groups, slots, strict=False):
            cursor, token = _cursor(group.branches[0]), group.branches[0].drawn[-1]
            held = tree.ahead(cursor, (token,))
            group.slot, group.held = (held[0], True) if held else (slot, False)
            tokens.append(token)
            positions.append(cursor.depth)
            written.append(TRASH if group.held else group.slot)
            rows.append(Row(cursor.chain(), group.slot))
        kept = list(written)
        for chunk, own in zip(chunks, _parts(slots[len(groups) :], chunks), strict=True):
            cursor = _cursor(chunk.job)
            # What is held is computed again where its logits or the state behind it are not.
            held = tree.ahead(cursor, chunk.tokens)
            reads = [*held, *own[len(held) :]]
            before = index_of(slots_before(cursor.chain()), device) if cursor.depth else None
            spans.append(Span(len(tokens), len(tokens) + len(chunk.tokens), before, index_of(reads, device)))
            tokens.extend(chunk.tokens)
            positions.extend(range(cursor.depth, cursor.depth + len(chunk.tokens)))
            written.extend([TRASH] * len(held) + reads[len(held) :])
            kept.append(reads[-1])
        wanted = [*range(len(groups)), *(span.end - 1 for span in spans)]
        plan = Plan(self.pool, index_of(written, device), rows, spans)
        states = [*(group.branches[0].state for group in groups), *(chunk.job.state for chunk in chunks)]
        out = self.model.step(tokens, positions, plan, wanted, states)
        if self.model.can_reread:
            self.pool.write_hidden(torch.tensor(kept, device=device), out.hidden)
        self._share(groups, chunks, 1.0 / len(tokens))
        self._keep_states(groups, chunks, out)
        order = [(branch, row) for row, group in enumerate(groups) for branch in group.branches]
        ends = range(len(groups), len(groups) + len(chunks))
        return Pass(out.logits, [branch for branch, _ in order], [row for _, row in order], ends)

    def _keep_states(self, groups: Sequence[_Group], chunks: Sequence[Chunk], out: Output) -> None:
        """Hand out a recurrent model's new states."""
        if not self.model.recurrent:
            return
        hidden = out.hidden.split(1)
        for group, state, read in zip(groups, out.states, hidden, strict=False):
            for branch in group.branches:
                branch.state, branch.hidden = state, read
        for chunk, state, read in zip(chunks, out.states[len(groups) :], hidden[len(groups) :], strict=True):
            chunk.job.state, chunk.job.hidden = state.kept(), read

    def _share(self, groups: Sequence[_Group], chunks: Sequence[Chunk], share: float) -> None:
        """Charge the pass, by positions."""
        for group in groups:
            for branch in group.branches:
                branch.passes += share / len(group.branches)
        for chunk in chunks:
            chunk.job.passes += share * len(chunk.tokens)
            chunk.job.computed += len(chunk.tokens)

    def _commit(self, groups: Sequence[_Group], chunks: Sequence[Chunk], slots: Sequence[int]) -> list[int]:
        """Put what was computed into the tree; the slots that were not needed."""
        spare = []
        for group, slot in zip(groups, slots, strict=False):
            used = [
                self.tree.advance(_cursor(branch), branch.drawn[-1], group.slot, readable=True)
                for branch in group.branches
            ]
            if not any(used):
                spare.append(slot)
        for chunk, own in zip(chunks, _parts(slots[len(groups) :], chunks), strict=True):
            cursor = _cursor(chunk.job)
            for token, slot in zip(chunk.tokens, own, strict=True):
                if not self.tree.advance(cursor, token, slot):
                    spare.append(slot)
            self.tree.set_readable(cursor.place)
        return spare


def _cursor(owner: LiveBranch | Job) -> Cursor:
    assert owner.cursor is not None
    return owner.cursor


def _parts(slots: Sequence[int], chunks: Sequence[Chunk]) -> list[Sequence[int]]:
    ends = list(accumulate(len(chunk.tokens) for chunk in chunks))
    return [slots[end - len(chunk.tokens) : end] for end, chunk in zip(ends, chunks, strict=True)]
