"""Drafts by a smaller model with the same tokenizer, which has a token tree of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.packing import Packing
from branchwise.backends.engine.speculation.chain import Chain, ChainDrafter
from branchwise.backends.engine.speculation.drafter import Ask

_FEW = 16  # tokens of a path that are computed beside those of other paths
_CHUNK = 512  # more of them at a time


class DraftModel(ChainDrafter):
    """What it has computed of a path stays held for the next draft, as far as the target agreed with it."""

    name = "draft-model"

    def __init__(self, model: EngineModel, pool: Pool, seconds: Callable[[int], float], *, rejection: bool) -> None:
        """`seconds`: of a step of the model over so many branches."""
        super().__init__(rejection=rejection)
        self._model, self._pool, self._seconds = model, pool, seconds
        self._tree = TokenTree(pool.slots)
        self._cursors: list[Cursor] = []  # of each chain, behind everything that is computed
        self._left: list[list[int]] = []  # of each chain, tokens to compute for its next logits

    def seconds(self, branches: int) -> float:
        return self._seconds(branches)

    @contextmanager
    def _begun(self, asks: Sequence[Ask]) -> Iterator[Sequence[Chain]]:
        self._cursors, self._left = [], []
        chains: list[Chain] = []
        try:
            for ask in asks:
                path = (*ask.branch.given, *ask.branch.drawn)
                if len(path) + ask.budget > self._model.context:
                    continue
                self._cursors.append(self._tree.pin(self._tree.match(path[:-1])))
                if not self._prefill(self._cursors[-1], path):
                    break
                self._left.append(list(path[self._cursors[-1].depth :]))
                chains.append(Chain(ask, path[-1], len(path) - 1))
            yield chains
        finally:
            for cursor in self._cursors:
                self._tree.release(cursor)

    def _prefill(self, cursor: Cursor, path: Sequence[int]) -> bool:
        """Compute a path but for its last few tokens; whether there was room."""
        while len(path) - cursor.depth > _FEW:
            tokens = path[cursor.depth : min(cursor.depth + _CHUNK, len(path) - 1)]
            slots = self._tree.allocate(len(tokens))
            if slots is None:
                return False
            packing = Packing(self._tree, self._pool)
            packing.add_span(cursor, tokens, slots)
            self._model.step(packing.tokens, packing.positions, packing.plan(), packing.wanted)
            self._advance(cursor, tokens, slots)
        return True

    def _logits(self, chains: Sequence[Chain]) -> Tensor | None:
        slots = self._tree.allocate(sum(map(len, self._left)))
        if slots is None:
            return None
        packing = Packing(self._tree, self._pool)
        ends: list[int] = []
        parts: list[list[int]] = []
        for cursor, tokens in zip(self._cursors, self._left, strict=False):
            parts.append(slots[len(packing.tokens) :][: len(tokens)])
            first = packing.add_tip(cursor, tokens, range(-1, len(tokens) - 1), parts[-1])
            ends.append(first + len(tokens) - 1)
        wanted = [packing.wanted[end] for end in ends]
        logits = self._model.step(packing.tokens, packing.positions, packing.plan(), wanted).logits
        for cursor, tokens, part in zip(self._cursors, self._left, parts, strict=False):
            self._advance(cursor, tokens, part)
        return logits

    def _draw(self, chains: Sequence[Chain], logits: Tensor, step: int) -> None:
        super()._draw(chains, logits, step)
        self._left = [[chain.last] for chain in chains]

    def _advance(self, cursor: Cursor, tokens: Sequence[int], slots: Sequence[int]) -> None:
        """Stand behind tokens that are computed; slots of those that were held already are given back."""
        self._tree.free([
            slot
            for token, slot in zip(tokens, slots, strict=True)
            if not self._tree.advance(cursor, token, slot)
        ])  # fmt: skip
