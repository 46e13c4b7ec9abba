"""Builder of a packed step: collects tokens, positions and slots of sequences and spans, and makes the plan of them."""

from collections.abc import Sequence

from branchwise.backends.engine.cache.kv_pool import SCRATCH_SLOT, KVPool, slot_index
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.model.plan import DecodeSequence, Plan, Span, prefix_slots


class StepBuilder:
    """The rows of a packed step: decode sequences first, then spans."""

    def __init__(self, tree: RadixTree, pool: KVPool) -> None:
        self._tree = tree
        self._pool = pool
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.logit_rows: list[int] = []
        """Rows whose logits are needed."""
        self.logit_slots: list[int] = []
        """[logit_rows] their slots."""
        self._slot_mapping: list[int] = []
        self._sequences: list[DecodeSequence] = []
        self._spans: list[Span] = []

    def add_sequence(self, cursor: Cursor, tokens: Sequence[int], parents: Sequence[int], slots: Sequence[int]) -> int:
        """Add the token after a cursor and the draft tree after it. Return the index of their first logits."""
        assert not self._spans
        first = len(self.logit_rows)
        # A cached token is read from its own slot; what is computed again is not stored.
        cached = self._tree.cached_slots(cursor, tokens[:1])
        sequence = DecodeSequence(cursor.prefix_nodes(), [*(cached or slots[:1]), *slots[1:]], parents)
        written = [SCRATCH_SLOT if cached else slots[0], *slots[1:]]
        self._sequences.append(sequence)
        self.logit_rows.extend(range(len(self.tokens), len(self.tokens) + len(tokens)))
        self.logit_slots.extend(written)
        self.tokens.extend(tokens)
        self.positions.extend(cursor.depth + depth for depth in sequence.depths())
        self._slot_mapping.extend(written)
        return first

    def add_span(self, cursor: Cursor, tokens: Sequence[int], slots: Sequence[int], logits: int = 1) -> int:
        """Add consecutive tokens after a cursor. Return the index of the first logits; the last `logits` tokens have
        some."""
        first, start, device = len(self.logit_rows), len(self.tokens), self._pool.device
        cached = self._tree.cached_slots(cursor, tokens)
        own = [*cached, *slots[len(cached) :]]
        prefix = slot_index(prefix_slots(cursor.prefix_nodes()), device) if cursor.depth else None
        self._spans.append(Span(start, start + len(tokens), prefix, slot_index(own, device)))
        self.logit_rows.extend(range(start + len(tokens) - logits, start + len(tokens)))
        self.logit_slots.extend(own[-logits:])
        self.tokens.extend(tokens)
        self.positions.extend(range(cursor.depth, cursor.depth + len(tokens)))
        self._slot_mapping.extend([SCRATCH_SLOT] * len(cached) + own[len(cached) :])
        return first

    def plan(self) -> Plan:
        """Return the plan of the step."""
        return Plan(self._pool, slot_index(self._slot_mapping, self._pool.device), self._sequences, self._spans)
