"""Drafts from all that belongs to one question: its prompt, and what its branches drew, running and finished.

Where the most of a branch's latest tokens was seen before, what followed there is proposed, by how often it
did (after the suffix tries of 2503.05330 and 2511.14617). A branch's own tokens count like its siblings'.
"""

from collections import OrderedDict
from collections.abc import Sequence

from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation.corpus import Corpus, Stream
from branchwise.backends.engine.speculation.draft_tree import grow
from branchwise.backends.engine.speculation.drafter import Ask, Drafter

_LONGEST_MATCH = 8
_DEPTH = 16  # tokens ahead
_TOKENS = 1 << 15  # kept in all, under 1 KB each; questions used longest ago go first


class Siblings(Drafter):
    """One corpus for each question."""

    name = "siblings"

    def __init__(self) -> None:
        self._questions: OrderedDict[int, Corpus] = OrderedDict()
        self._own: dict[LiveBranch, Stream] = {}
        self._kept = 0  # tokens of all questions

    def propose(self, asks: Sequence[Ask]) -> None:
        for draft, branch, budget in asks:
            corpus = self._questions.get(branch.question)
            if corpus is not None:
                matches = corpus.matches(branch.recent(_LONGEST_MATCH), _LONGEST_MATCH)
                grow(draft, matches, budget, _DEPTH, self.name)

    def learn(self, branch: LiveBranch, tokens: Sequence[int]) -> None:
        corpus = self._corpus(branch)
        before = len(corpus)
        own = self._own.get(branch)
        if own is None or own.dropped:
            # The prompt's end is part of what the first tokens follow.
            own = self._own[branch] = corpus.begin()
            corpus.extend(own, branch.given[-_LONGEST_MATCH:])
        corpus.extend(own, tokens)
        self._kept += len(corpus) - before
        while self._kept > _TOKENS and len(self._questions) > 1:
            _, oldest = self._questions.popitem(last=False)
            self._kept -= len(oldest)
            oldest.clear()

    def leave(self, branch: LiveBranch) -> None:
        self._own.pop(branch, None)

    def _corpus(self, branch: LiveBranch) -> Corpus:
        corpus = self._questions.get(branch.question)
        if corpus is None:
            corpus = self._questions[branch.question] = Corpus(_TOKENS)
            corpus.extend(corpus.begin(), branch.given)
            self._kept += len(corpus)
        self._questions.move_to_end(branch.question)
        return corpus
