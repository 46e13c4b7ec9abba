"""Prompt lookup: drafts from the branch's own prompt and its own tokens (Saxena 2023)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.speculation.draft_tree import expand
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.suffix_index import Match, SuffixIndex, TokenSequence

_MAX_MATCH = 3  # tokens
_MAX_DEPTH = 10  # tokens
_UNBOUNDED = 1 << 62  # tokens of one index; the context bounds a prompt and a branch
_PROMPT_CAPACITY = 1 << 16  # tokens of all prompts, under 1 KB each; the oldest prompt is evicted first


class _Sources(NamedTuple):
    """The suffix indexes that one branch is drafted from."""

    prompt: SuffixIndex
    sampled: SuffixIndex
    sequence: TokenSequence  # of `sampled`


class PromptLookup(Drafter):
    """One suffix index for each running branch and one for each prompt."""

    name = "lookup"

    def __init__(self) -> None:
        self._sources: dict[EngineBranch, _Sources] = {}
        self._prompts: OrderedDict[tuple[int, ...], SuffixIndex] = OrderedDict()

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        for draft, branch, budget in requests:
            sources = self._sources.get(branch)
            if sources is None:
                continue
            recent = branch.recent(_MAX_MATCH)
            indexes = (sources.prompt, sources.sampled)
            matches = [match for index in indexes for match in index.matches(recent, _MAX_MATCH)[:1]]
            if matches:
                best = max(matches, key=lambda match: match.length)
                latest = Match(best.length, best.occurrences[:1])
                expand(draft, [latest], budget=budget, max_depth=_MAX_DEPTH, drafter=self.name)

    def observe(self, branch: EngineBranch, tokens: Sequence[int]) -> None:
        sources = self._sources.get(branch)
        if sources is None:
            sampled = SuffixIndex(_UNBOUNDED)
            sources = self._sources[branch] = _Sources(self._prompt(branch.prefix), sampled, sampled.begin())
        sources.sampled.extend(sources.sequence, tokens)

    def release(self, branch: EngineBranch) -> None:
        self._sources.pop(branch, None)

    def _prompt(self, tokens: tuple[int, ...]) -> SuffixIndex:
        """Return the index of a prompt, which branches with the same prompt share."""
        index = self._prompts.get(tokens)
        if index is None:
            index = self._prompts[tokens] = SuffixIndex(_UNBOUNDED)
            index.extend(index.begin(), tokens)
            while len(self._prompts) > 1 and sum(map(len, self._prompts.values())) > _PROMPT_CAPACITY:
                self._prompts.popitem(last=False)
        return index
