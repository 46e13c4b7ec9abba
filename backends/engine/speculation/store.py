"""Drafts from everything sampled lately, for any question (SuffixDecoding, 2411.04975)."""

from collections.abc import Sequence

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.speculation.draft_tree import expand
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.suffix_index import SuffixIndex, TokenSequence

_MAX_MATCH = 24  # tokens
_CAPACITY = 1 << 15  # tokens, under 1 KB each


class Store(Drafter):
    """One suffix index for all questions; a draft is no deeper than its match is long."""

    name = "store"

    def __init__(self) -> None:
        self._index = SuffixIndex(_CAPACITY)
        self._sequences: dict[EngineBranch, TokenSequence] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        for draft, branch, budget in requests:
            matches = self._index.matches(branch.recent(_MAX_MATCH), _MAX_MATCH)
            if matches:
                expand(draft, matches, budget=budget, max_depth=matches[0].length, drafter=self.name)

    def observe(self, branch: EngineBranch, tokens: Sequence[int]) -> None:
        sequence = self._sequences.get(branch)
        if sequence is None or sequence.evicted:
            sequence = self._sequences[branch] = self._index.begin()
        self._index.extend(sequence, tokens)

    def release(self, branch: EngineBranch) -> None:
        self._sequences.pop(branch, None)
