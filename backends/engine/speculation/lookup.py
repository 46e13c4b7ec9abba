"""Prompt lookup: drafts from the branch's own prompt and what it drew itself (Saxena 2023)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation.corpus import Corpus, Match, Stream
from branchwise.backends.engine.speculation.draft_tree import grow
from branchwise.backends.engine.speculation.drafter import Ask, Drafter

_LONGEST_MATCH = 3
_DEPTH = 10
_MOST = 1 << 62  # tokens; those of a prompt and a branch are bounded by the context
_KEPT = 1 << 16  # tokens of prompts, under 1 KB each; those that came first go first


class _Known(NamedTuple):
    """What a branch has behind it."""

    prompt: Corpus
    drawn: Corpus
    own: Stream


class Lookup(Drafter):
    """One corpus for each running branch, and one for each prompt."""

    name = "lookup"

    def __init__(self) -> None:
        self._known: dict[LiveBranch, _Known] = {}
        self._prompts: OrderedDict[tuple[int, ...], Corpus] = OrderedDict()

    def propose(self, asks: Sequence[Ask]) -> None:
        for draft, branch, budget in asks:
            known = self._known.get(branch)
            recent = branch.recent(_LONGEST_MATCH)
            corpora = () if known is None else (known.prompt, known.drawn)
            matches = [match for corpus in corpora for match in corpus.matches(recent, _LONGEST_MATCH)[:1]]
            if matches:
                best = max(matches, key=lambda match: match.length)
                grow(draft, [Match(best.length, best.places[:1])], budget, _DEPTH, self.name)

    def learn(self, branch: LiveBranch, tokens: Sequence[int]) -> None:
        known = self._known.get(branch)
        if known is None:
            drawn = Corpus(_MOST)
            known = self._known[branch] = _Known(self._prompt(branch.given), drawn, drawn.begin())
        known.drawn.extend(known.own, tokens)

    def leave(self, branch: LiveBranch) -> None:
        self._known.pop(branch, None)

    def _prompt(self, given: tuple[int, ...]) -> Corpus:
        corpus = self._prompts.get(given)
        if corpus is None:
            corpus = self._prompts[given] = Corpus(_MOST)
            corpus.extend(corpus.begin(), given)
            while len(self._prompts) > 1 and sum(map(len, self._prompts.values())) > _KEPT:
                self._prompts.popitem(last=False)
        return corpus
