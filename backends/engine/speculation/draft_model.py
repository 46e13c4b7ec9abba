"""Drafts by a smaller model with the same tokenizer, which has a radix tree and a KV pool of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import KVPool
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.step_builder import StepBuilder
from branchwise.backends.engine.speculation.chain import Chain, ChainDrafter
from branchwise.backends.engine.speculation.drafter import DraftRequest

_MAX_BATCHED = 16  # tokens of a branch that are computed in one pass with those of other branches
_PREFILL_CHUNK = 512  # tokens


@dataclass(slots=True)
class _Progress:
    """The computed and the pending tokens of a chain."""

    cursor: Cursor  # after the last computed token
    pending: list[int]  # tokens to compute for the next logits


class DraftModel(ChainDrafter):
    """A draft model. What it has computed stays in its cache for the next draft of the branch."""

    name = "draft-model"

    def __init__(self, model: EngineModel, pool: KVPool, seconds: Callable[[int], float], *, rejection: bool) -> None:
        """`seconds`: the cost of a decode step of the model by the number of branches."""
        super().__init__(rejection=rejection)
        self._model = model
        self._pool = pool
        self._seconds = seconds
        self._tree = RadixTree(pool.slots)
        self._progress: list[_Progress] = []  # of each chain

    def seconds(self, branches: int) -> float:
        return self._seconds(branches)

    @contextmanager
    def _started(self, requests: Sequence[DraftRequest]) -> Iterator[Sequence[Chain]]:
        self._progress = []
        pinned: list[Cursor] = []
        chains: list[Chain] = []
        try:
            for request in requests:
                path = (*request.branch.prefix, *request.branch.sampled)
                if len(path) + request.budget > self._model.context:
                    continue
                cursor = self._tree.pin(self._tree.match(path[:-1]))
                pinned.append(cursor)
                if not self._prefill(cursor, path):
                    break
                self._progress.append(_Progress(cursor, list(path[cursor.depth :])))
                chains.append(Chain(request, path[-1], len(path) - 1))
            yield chains
        finally:
            for cursor in pinned:
                self._tree.release(cursor)

    def _prefill(self, cursor: Cursor, path: Sequence[int]) -> bool:
        """Compute a path but for its last few tokens. Return False when the pool is full."""
        while len(path) - cursor.depth > _MAX_BATCHED:
            tokens = path[cursor.depth : min(cursor.depth + _PREFILL_CHUNK, len(path) - 1)]
            slots = self._tree.allocate(len(tokens))
            if slots is None:
                return False
            builder = StepBuilder(self._tree, self._pool)
            builder.add_span(cursor, tokens, slots)
            self._model.step(builder.tokens, builder.positions, builder.plan(), builder.logit_rows)
            self._advance(cursor, tokens, slots)
        return True

    def _logits(self, chains: Sequence[Chain]) -> Tensor | None:
        slots = self._tree.allocate(sum(len(one.pending) for one in self._progress))
        if slots is None:
            return None
        builder = StepBuilder(self._tree, self._pool)
        ends: list[int] = []
        parts: list[list[int]] = []
        for one in self._progress:
            count = len(one.pending)
            parts.append(slots[len(builder.tokens) :][:count])
            first = builder.add_sequence(one.cursor, one.pending, range(-1, count - 1), parts[-1])
            ends.append(first + count - 1)
        wanted = [builder.logit_rows[end] for end in ends]
        logits = self._model.step(builder.tokens, builder.positions, builder.plan(), wanted).logits
        for one, part in zip(self._progress, parts, strict=True):
            self._advance(one.cursor, one.pending, part)
        return logits

    def _extend(self, chains: Sequence[Chain], logits: Tensor, step: int) -> None:
        super()._extend(chains, logits, step)
        for one, chain in zip(self._progress, chains, strict=True):
            one.pending = [chain.token]

    def _advance(self, cursor: Cursor, tokens: Sequence[int], slots: Sequence[int]) -> None:
        """Move the cursor past computed tokens, and free the slots of those that were cached already."""
        computed = zip(tokens, slots, strict=True)
        self._tree.free([slot for token, slot in computed if not self._tree.advance(cursor, token, slot)])
