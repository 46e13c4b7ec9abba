"""Rows of a packed step, put together piece by piece."""

from collections.abc import Sequence

from branchwise.backends.engine.cache.kv_pool import TRASH, Pool
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.model.plan import Plan, Span, Tip, index_of, slots_before


class Packing:
    """Tips of paths come first, then spans."""

    def __init__(self, tree: TokenTree, pool: Pool) -> None:
        self._tree, self._pool = tree, pool
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.wanted: list[int] = []
        """The rows whose logits are asked for."""
        self.kept: list[int] = []
        """[wanted] the slots they are of."""
        self._written: list[int] = []
        self._tips: list[Tip] = []
        self._spans: list[Span] = []

    def add_tip(self, cursor: Cursor, tokens: Sequence[int], parents: Sequence[int], slots: Sequence[int]) -> int:
        """The token behind a cursor and drafts behind it; the first of their logits."""
        assert not self._spans
        first = len(self.wanted)
        # What is held already is read where it is, and what is computed again goes nowhere.
        held = self._tree.ahead(cursor, tokens[:1])
        tip = Tip(cursor.chain(), [*(held or slots[:1]), *slots[1:]], parents)
        written = [TRASH if held else slots[0], *slots[1:]]
        self._tips.append(tip)
        self.wanted.extend(range(len(self.tokens), len(self.tokens) + len(tokens)))
        self.kept.extend(written)
        self.tokens.extend(tokens)
        self.positions.extend(cursor.depth + depth for depth in tip.depths())
        self._written.extend(written)
        return first

    def add_span(self, cursor: Cursor, tokens: Sequence[int], slots: Sequence[int], wanted: int = 1) -> int:
        """Tokens behind a cursor, one after another; the first of the logits of the last `wanted` of them."""
        first, start, device = len(self.wanted), len(self.tokens), self._pool.device
        held = self._tree.ahead(cursor, tokens)
        reads = [*held, *slots[len(held) :]]
        before = index_of(slots_before(cursor.chain()), device) if cursor.depth else None
        self._spans.append(Span(start, start + len(tokens), before, index_of(reads, device)))
        self.wanted.extend(range(start + len(tokens) - wanted, start + len(tokens)))
        self.kept.extend(reads[-wanted:])
        self.tokens.extend(tokens)
        self.positions.extend(range(cursor.depth, cursor.depth + len(tokens)))
        self._written.extend([TRASH] * len(held) + reads[len(held) :])
        return first

    def plan(self) -> Plan:
        """Who writes and reads what."""
        return Plan(self._pool, index_of(self._written, self._pool.device), self._tips, self._spans)
