"""The running branches, and the packed pass that computes the next token of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.cache.snapshots import State
from branchwise.backends.engine.model.causal_lm import EngineModel, Output
from branchwise.backends.engine.model.packing import Packing
from branchwise.backends.engine.scheduler.jobs import Job, LiveBranch
from branchwise.backends.engine.speculation.draft import Draft
from branchwise.backends.engine.speculation.drafting import Drafting
from branchwise.backends.engine.speculation.verify import Verify, Walk, walk


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
    hidden: Tensor  # [rows, hidden_size] what the output head read
    walks: Sequence[Walk]  # what each running branch drew
    chunks: Sequence[int]  # [chunks] the row of the logits after each chunk


@dataclass(slots=True)
class _Group:
    """Branches that drew the same tokens behind the same place: they are computed once for all of them, and one draft
    is behind them."""

    branches: list[LiveBranch]
    pending: Sequence[int]  # drawn and not computed yet: the last token alone, unless states lag behind
    draft: Draft = field(default_factory=Draft)
    slots: list[int] = field(default_factory=list)  # of the pending tokens, then of the drafts
    row: int = 0  # of the logits behind the last pending token; those of the drafts follow
    state: State | None = None  # of a recurrent model, behind all of it

    def __len__(self) -> int:
        return len(self.pending) + len(self.draft)


class Batch:
    """The running branches. Owned by the step loop."""

    def __init__(
        self,
        model: EngineModel,
        tree: TokenTree,
        pool: Pool,
        most: int,
        ends: frozenset[int],
        drafting: Drafting | None,
        verify: Verify = walk,
    ) -> None:
        """`most`: branches in a pass; `ends`: tokens that end a branch; `verify`: draws from a pass."""
        self.model, self.tree, self.pool, self.most, self.ends = model, tree, pool, most, ends
        self.running: list[LiveBranch] = []
        self.drafting, self.verify = drafting, verify

    @property
    def room(self) -> int:
        """How many more branches fit."""
        return self.most - len(self.running)

    def step(self, chunks: Sequence[Chunk]) -> Pass:
        """Compute the last drawn token of every branch with its drafts, and the chunks, in one pass, and draw from it.

        Raises PoolFullError before anything is changed; nothing is changed by any other error either.
        """
        groups = self._groups()
        slots = self._allocate(groups, chunks)
        try:
            done = self._compute(groups, chunks, slots)
            self.verify(done.logits, done.walks, self.ends)
        except BaseException:
            self.tree.free(slots)
            raise
        self.tree.free(self._commit(groups, chunks, slots, done))
        return done

    def _groups(self) -> list[_Group]:
        groups: dict[tuple[int, int, tuple[int, ...], int], _Group] = {}
        apart = self.drafting is not None and self.drafting.apart
        for branch in self.running:
            cursor, pending = _cursor(branch), branch.pending()
            place = (id(cursor.run), cursor.offset, pending, id(branch) if apart else 0)
            groups.setdefault(place, _Group([], pending)).branches.append(branch)
        found = list(groups.values())
        if self.drafting is not None and (not self.model.recurrent or _may_lag(found)):
            drafts = self.drafting.propose([group.branches for group in found])
            for group, draft in zip(found, drafts, strict=True):
                group.draft = draft.chain() if self.model.recurrent else draft
        return sorted(found, key=self._alone)

    def _alone(self, group: _Group) -> bool:
        """Whether a group is computed by itself: states go through tokens in their order."""
        return self.model.recurrent and len(group) > 1

    def _allocate(self, groups: Sequence[_Group], chunks: Sequence[Chunk]) -> list[int]:
        """Slots for every row; drafts are the first to do without."""
        for _ in range(2):
            count = sum(map(len, groups)) + sum(len(chunk.tokens) for chunk in chunks)
            slots = self.tree.allocate(count)
            if slots is not None:
                return slots
            for group in groups:
                group.draft = Draft()
        raise PoolFullError

    def _compute(self, groups: Sequence[_Group], chunks: Sequence[Chunk], slots: Sequence[int]) -> Pass:
        packing, own = Packing(self.tree, self.pool), iter(slots)
        for group in groups:
            cursor, tokens = _cursor(group.branches[0]), [*group.pending, *group.draft.tokens]
            group.slots = list(islice(own, len(group)))
            if self._alone(group):
                group.row = packing.add_span(cursor, tokens, group.slots, 1 + len(group.draft))
            else:
                group.row = packing.add_tip(cursor, tokens, group.draft.behind, group.slots)
        rows = [packing.add_span(_cursor(c.job), c.tokens, list(islice(own, len(c.tokens)))) for c in chunks]
        states = [*map(self._state, groups), *(chunk.job.state for chunk in chunks)]
        out = self.model.step(packing.tokens, packing.positions, packing.plan(), packing.wanted, states)
        if self.model.can_reread:
            self.pool.write_hidden(torch.tensor(packing.kept, device=self.pool.device), out.hidden)
        self._share(groups, chunks, 1.0 / len(packing.tokens))
        if self.model.recurrent:
            self._take_states(groups, chunks, rows, out)
        walks = [
            Walk(branch, _cursor(branch).depth + len(group.pending), group.row, group.draft)
            for group in groups
            for branch in group.branches
        ]
        return Pass(out.logits, out.hidden, walks, rows)

    def _state(self, group: _Group) -> State | None:
        """A recurrent model's state before a group, kept where drafts may turn out wrong."""
        if group.draft:
            for branch in group.branches:
                branch.state = None if branch.state is None else branch.state.kept()
        return group.branches[0].state

    def _take_states(self, groups: Sequence[_Group], chunks: Sequence[Chunk], rows: Sequence[int], out: Output) -> None:
        """A recurrent model's new states."""
        for group, state in zip(groups, out.states, strict=False):
            group.state = state
        for chunk, row, state in zip(chunks, rows, out.states[len(groups) :], strict=True):
            chunk.job.state, chunk.job.hidden = state.kept(), out.hidden[row : row + 1]

    def _share(self, groups: Sequence[_Group], chunks: Sequence[Chunk], share: float) -> None:
        """Charge the pass, by positions."""
        for group in groups:
            for branch in group.branches:
                branch.passes += share * len(group) / len(group.branches)
                branch.drafted.update(node.drafter for node in group.draft.nodes)
        for chunk in chunks:
            chunk.job.passes += share * len(chunk.tokens)
            chunk.job.computed += len(chunk.tokens)

    def _commit(self, groups: Sequence[_Group], chunks: Sequence[Chunk], slots: Sequence[int], done: Pass) -> list[int]:
        """Put what was computed and accepted into the tree; the slots that were not needed."""
        spare: list[int] = []
        walks = iter(done.walks)
        for group in groups:
            used: set[int] = set()
            for branch, own in zip(group.branches, walks, strict=False):
                if self.model.recurrent:
                    if len(own.accepted) < len(group.draft):
                        continue  # the state behind what was accepted is not known: next, it is computed from the old
                    branch.state, branch.hidden = group.state, done.hidden[group.row + len(own.accepted)][None]
                places = [*range(len(group.pending)), *(len(group.pending) + node for node in own.accepted)]
                tokens = [*group.pending, *(choice.token for choice in own.choices)]
                for token, place in zip(tokens, places, strict=False):
                    if self.tree.advance(_cursor(branch), token, group.slots[place], readable=True):
                        used.add(group.slots[place])
            spare.extend(slot for slot in group.slots if slot not in used)
        decoding = sum(len(group.slots) for group in groups)
        for chunk, parts in zip(chunks, _parts(slots[decoding:], chunks), strict=True):
            cursor = _cursor(chunk.job)
            for token, slot in zip(chunk.tokens, parts, strict=True):
                if not self.tree.advance(cursor, token, slot):
                    spare.append(slot)
            self.tree.set_readable(cursor.place)
        return spare


def _cursor(owner: LiveBranch | Job) -> Cursor:
    assert owner.cursor is not None
    return owner.cursor


def _may_lag(groups: Sequence[_Group]) -> bool:
    """Whether drafts are worth a try where each of several groups would be computed by itself."""
    return len(groups) == 1 and len(groups[0].pending) == 1


def _parts(slots: Sequence[int], chunks: Sequence[Chunk]) -> list[Sequence[int]]:
    ends = list(accumulate(len(chunk.tokens) for chunk in chunks))
    return [slots[end - len(chunk.tokens) : end] for end, chunk in zip(ends, chunks, strict=True)]
