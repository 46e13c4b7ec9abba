"""Drafts from one question's prompt and from all of its branches, running and finished.

The longest match of a branch's latest tokens is looked up there, and what followed it is proposed in order of frequency
(after the suffix tries of 2503.05330 and 2511.14617). A branch's own tokens count like those of its siblings.
"""

from collections import OrderedDict
from collections.abc import Sequence

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.speculation.draft_tree import expand
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.suffix_index import SuffixIndex, TokenSequence

_MAX_MATCH = 8  # tokens
_MAX_DEPTH = 16  # tokens
_CAPACITY = 1 << 15  # tokens of all questions, under 1 KB each; the least recently used question is evicted first


class Siblings(Drafter):
    """One suffix index for each question."""

    name = "siblings"

    def __init__(self) -> None:
        self._questions: OrderedDict[int, SuffixIndex] = OrderedDict()
        self._sequences: dict[EngineBranch, TokenSequence] = {}
        self._size = 0  # tokens of all questions

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        for draft, branch, budget in requests:
            index = self._questions.get(branch.prompt_hash)
            if index is not None:
                matches = index.matches(branch.recent(_MAX_MATCH), _MAX_MATCH)
                expand(draft, matches, budget=budget, max_depth=_MAX_DEPTH, drafter=self.name)

    def observe(self, branch: EngineBranch, tokens: Sequence[int]) -> None:
        index = self._index(branch)
        before = len(index)
        sequence = self._sequences.get(branch)
        if sequence is None or sequence.evicted:
            # The end of the prompt is the context of the first tokens.
            sequence = self._sequences[branch] = index.begin()
            index.extend(sequence, branch.prefix[-_MAX_MATCH:])
        index.extend(sequence, tokens)
        self._size += len(index) - before
        while self._size > _CAPACITY and len(self._questions) > 1:
            _, oldest = self._questions.popitem(last=False)
            self._size -= len(oldest)
            oldest.clear()

    def release(self, branch: EngineBranch) -> None:
        self._sequences.pop(branch, None)

    def _index(self, branch: EngineBranch) -> SuffixIndex:
        """Return the index of the branch's question, now the most recently used one."""
        index = self._questions.get(branch.prompt_hash)
        if index is None:
            index = self._questions[branch.prompt_hash] = SuffixIndex(_CAPACITY)
            index.extend(index.begin(), branch.prefix)
            self._size += len(index)
        self._questions.move_to_end(branch.prompt_hash)
        return index
