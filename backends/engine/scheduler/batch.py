"""The running branches, and the packed forward pass that computes the next token of all of them.

The step loop calls it once a step, together with the prefill chunks that admission chose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.cache.kv_pool import KVPool
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.cache.snapshots import State
from branchwise.backends.engine.model.causal_lm import EngineModel, StepOutput
from branchwise.backends.engine.model.step_builder import StepBuilder
from branchwise.backends.engine.scheduler.requests import Request
from branchwise.backends.engine.speculation.draft import Draft
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.backends.engine.speculation.verify import Verification, Verifier, verify_isolated, verify_keyed


class PoolFullError(Exception):
    """Every slot of the KV pool holds a pinned token."""


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """The next tokens after a request's cursor, to compute in this pass."""

    request: Request
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """The outcome of a packed pass."""

    logits: Tensor  # [rows, vocabulary]
    hidden: Tensor  # [rows, hidden_size] inputs of the output head
    verifications: Sequence[Verification]  # of each running branch, those of a group in a row
    chunk_rows: Sequence[int]  # [chunks] row of the logits after each chunk


@dataclass(slots=True)
class _Group:
    """Branches with the same tokens: they share one row and one draft."""

    branches: list[EngineBranch]
    pending: Sequence[int]  # sampled but not computed: one token, more after a recurrent model's rejected drafts
    draft: Draft = field(default_factory=Draft)
    slots: list[int] = field(default_factory=list)  # of the pending tokens, then of the draft's nodes
    row: int = 0  # of the logits after the last pending token; those of the draft's nodes follow
    state: State | None = None  # recurrent state after all pending and drafted tokens

    def __len__(self) -> int:
        return len(self.pending) + len(self.draft)


class Batch:
    """The running branches. Owned by the step loop."""

    def __init__(
        self,
        *,
        model: EngineModel,
        tree: RadixTree,
        pool: KVPool,
        max_branches: int,
        end_tokens: frozenset[int],
        speculator: Speculator | None = None,
        verify: Verifier = verify_keyed,
    ) -> None:
        """`max_branches`: in one pass; `end_tokens`: those that end a branch; `verify`: samples from logits."""
        self.model = model
        self.tree = tree
        self.pool = pool
        self.max_branches = max_branches
        self.end_tokens = end_tokens
        self.speculator = speculator
        self._verify = verify
        self.running: list[EngineBranch] = []

    @property
    def available(self) -> int:
        """Number of branches that may still join."""
        return self.max_branches - len(self.running)

    def verify(self, logits: Tensor, verifications: Sequence[Verification]) -> None:
        """Sample from logits [rows, vocabulary] for every branch. A branch that fails has an error, and no tokens."""
        verify_isolated(self._verify, logits, verifications, self.end_tokens)

    def step(self, chunks: Sequence[PrefillChunk]) -> StepResult:
        """Compute every branch's pending tokens and drafts, and the chunks, in one pass. Sample from its logits.

        Raises PoolFullError before anything is changed; after any other error, too, the tree is as it was.
        """
        groups = self._groups()
        slots = self._allocate(groups, chunks)
        try:
            result = self._compute(groups, chunks, slots)
            self.verify(result.logits, result.verifications)
        except BaseException:
            self.tree.free(slots)
            raise
        decode_slots = sum(len(group.slots) for group in groups)
        spare = self._commit_groups(groups, result)
        spare.extend(self._commit_chunks(chunks, islice(slots, decode_slots, None)))
        self.tree.free(spare)
        return result

    def _groups(self) -> list[_Group]:
        groups: dict[tuple[int, int, tuple[int, ...], int], _Group] = {}
        separate = self.speculator is not None and self.speculator.separate
        for branch in self.running:
            cursor, pending = _cursor(branch), branch.pending()
            position = (id(cursor.node), cursor.offset, pending, id(branch) if separate else 0)
            groups.setdefault(position, _Group([], pending)).branches.append(branch)
        found = list(groups.values())
        if self.speculator is not None and (not self.model.recurrent or _is_single_decode(found)):
            drafts = self.speculator.propose([group.branches for group in found])
            for group, draft in zip(found, drafts, strict=True):
                group.draft = draft.first_chain() if self.model.recurrent else draft
        return sorted(found, key=self._is_span)

    def _is_span(self, group: _Group) -> bool:
        """Return whether a group is computed as a span: recurrent states process tokens in order."""
        return self.model.recurrent and len(group) > 1

    def _allocate(self, groups: Sequence[_Group], chunks: Sequence[PrefillChunk]) -> list[int]:
        """Return a slot for every row; where there are too few, the drafts are dropped first."""
        for _ in range(2):
            count = sum(map(len, groups)) + sum(len(chunk.tokens) for chunk in chunks)
            slots = self.tree.allocate(count)
            if slots is not None:
                return slots
            for group in groups:
                group.draft = Draft()
        raise PoolFullError

    def _compute(self, groups: Sequence[_Group], chunks: Sequence[PrefillChunk], slots: Sequence[int]) -> StepResult:
        builder, free = StepBuilder(self.tree, self.pool), iter(slots)
        for group in groups:
            cursor, tokens = _cursor(group.branches[0]), [*group.pending, *group.draft.tokens]
            group.slots = list(islice(free, len(group)))
            if self._is_span(group):
                group.row = builder.add_span(cursor, tokens, group.slots, 1 + len(group.draft))
            else:
                group.row = builder.add_sequence(cursor, tokens, group.draft.parent_rows, group.slots)
        rows = [builder.add_span(_cursor(c.request), c.tokens, list(islice(free, len(c.tokens)))) for c in chunks]
        states = [*map(self._state, groups), *(chunk.request.state for chunk in chunks)]
        out = self.model.step(builder.tokens, builder.positions, builder.plan(), builder.logit_rows, states)
        if self.model.logits_from_hidden:
            self.pool.write_hidden(torch.tensor(builder.logit_slots, device=self.pool.device), out.hidden)
        _charge(groups, chunks, 1.0 / len(builder.tokens))
        if self.model.recurrent:
            _store_states(groups, chunks, rows, out)
        verifications = [
            Verification(branch, _cursor(branch).depth + len(group.pending), group.row, group.draft)
            for group in groups
            for branch in group.branches
        ]
        return StepResult(out.logits, out.hidden, verifications, rows)

    def _state(self, group: _Group) -> State | None:
        """Return a group's recurrent state; copied first where it may have to survive a rejected draft."""
        if group.draft:
            for branch in group.branches:
                branch.state = None if branch.state is None else branch.state.copy()
        return group.branches[0].state

    def _commit_groups(self, groups: Sequence[_Group], result: StepResult) -> list[int]:
        """Insert the pending and accepted tokens of every branch. Return the slots that no token needed."""
        spare: list[int] = []
        verifications = iter(result.verifications)
        for group in groups:
            used: set[int] = set()
            for branch in group.branches:
                verified = next(verifications)
                if self.model.recurrent:
                    if len(verified.accepted) < len(group.draft):
                        continue  # the state after the accepted tokens is unknown: the next step computes them again
                    branch.state, branch.hidden = group.state, result.hidden[group.row + len(verified.accepted)][None]
                rows = [*range(len(group.pending)), *(len(group.pending) + node for node in verified.accepted)]
                tokens = [*group.pending, *verified.tokens[:-1]]  # the last one is sampled but not computed
                for token, row in zip(tokens, rows, strict=True):
                    if self.tree.advance(_cursor(branch), token, group.slots[row], has_hidden=True):
                        used.add(group.slots[row])
            spare.extend(slot for slot in group.slots if slot not in used)
        return spare

    def _commit_chunks(self, chunks: Sequence[PrefillChunk], slots: Iterator[int]) -> list[int]:
        """Insert the prefilled tokens. Return the slots of those that another request inserted before."""
        spare: list[int] = []
        for chunk in chunks:
            cursor = _cursor(chunk.request)
            for token in chunk.tokens:
                slot = next(slots)
                if not self.tree.advance(cursor, token, slot):
                    spare.append(slot)
            self.tree.set_has_hidden(cursor.position)
        return spare


def _cursor(owner: EngineBranch | Request) -> Cursor:
    assert owner.cursor is not None
    return owner.cursor


def _is_single_decode(groups: Sequence[_Group]) -> bool:
    """Return whether a recurrent model may draft: it computes the drafts of each group in a pass of its own."""
    return len(groups) == 1 and len(groups[0].pending) == 1


def _charge(groups: Sequence[_Group], chunks: Sequence[PrefillChunk], share: float) -> None:
    """Charge the pass to branches and requests, `share` for each row."""
    for group in groups:
        for branch in group.branches:
            branch.passes += share * len(group) / len(group.branches)
            branch.drafted.update(node.drafter for node in group.draft.nodes)
    for chunk in chunks:
        chunk.request.passes += share * len(chunk.tokens)
        chunk.request.prefilled += len(chunk.tokens)


def _store_states(
    groups: Sequence[_Group], chunks: Sequence[PrefillChunk], rows: Sequence[int], out: StepOutput
) -> None:
    """Store the recurrent states after each group and chunk."""
    for group, state in zip(groups, out.states[: len(groups)], strict=True):
        group.state = state
    for chunk, row, state in zip(chunks, rows, out.states[len(groups) :], strict=True):
        chunk.request.state, chunk.request.hidden = state.copy(), out.hidden[row : row + 1]
