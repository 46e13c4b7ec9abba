"""Drafts from all that was generated lately, for any question (SuffixDecoding, 2411.04975)."""

from collections.abc import Sequence

from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation.corpus import Corpus, Stream
from branchwise.backends.engine.speculation.draft_tree import grow
from branchwise.backends.engine.speculation.drafter import Ask, Drafter

_LONGEST_MATCH = 24
_TOKENS = 1 << 15  # kept, under 1 KB each


class Store(Drafter):
    """One corpus for all questions; a draft is no longer than the match it follows."""

    name = "store"

    def __init__(self) -> None:
        self._corpus = Corpus(_TOKENS)
        self._own: dict[LiveBranch, Stream] = {}

    def propose(self, asks: Sequence[Ask]) -> None:
        for draft, branch, budget in asks:
            matches = self._corpus.matches(branch.recent(_LONGEST_MATCH), _LONGEST_MATCH)
            if matches:
                grow(draft, matches, budget, matches[0].length, self.name)

    def learn(self, branch: LiveBranch, tokens: Sequence[int]) -> None:
        own = self._own.get(branch)
        if own is None or own.dropped:
            own = self._own[branch] = self._corpus.begin()
        self._corpus.extend(own, tokens)

    def leave(self, branch: LiveBranch) -> None:
        self._own.pop(branch, None)
