"""The verifier: the target's own choice at every place, followed through the drafts as far as they foresaw it.

A token is drawn from the target's distribution with noise that depends on its branch's key and its
position alone (see `sampler`), so what a step draws is the same with any drafts and with none: they only
say how many tokens one pass may draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from branchwise.backends.engine.sampling.sampler import Draw, draw
from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation.draft import ROOT, Draft
from branchwise.core.path import TopLogprob

_LIKELY = 0.5  # a draw costs little, but a round of them about as much as eight


class Choice(NamedTuple):
    """A token the target chose."""

    token: int
    logprob: float
    alternatives: tuple[TopLogprob, ...]


@dataclass(slots=True, eq=False)
class Walk:
    """One branch's way through its drafts."""

    branch: LiveBranch
    position: int  # of the first token to draw
    row: int  # of the logits to draw it from; those of the drafts follow
    draft: Draft = field(default_factory=Draft)
    choices: list[Choice] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)  # nodes, in order: all choices but the last
    node: int = ROOT

    def likely(self) -> list[int]:
        """The node it stands at, and those it will likely come to next."""
        nodes, chance = [self.node], 1.0
        while True:
            child = self.draft.likeliest(nodes[-1])
            if child is None or chance * self.draft.nodes[child].share < _LIKELY:
                return nodes
            chance *= self.draft.nodes[child].share
            nodes.append(child)

    def draws(self) -> list[Draw]:
        """The draws behind the likely nodes, in order."""
        sampling, key, first = self.branch.sampling, self.branch.key, self.position + len(self.choices)
        return [Draw(sampling, key, first + i, self.row + 1 + node) for i, node in enumerate(self.likely())]

    def follow(self, choices: Sequence[Choice], ends: frozenset[int]) -> bool:
        """Go on along choices drawn behind the likely nodes; whether more is to be drawn for it."""
        for node, choice in zip(self.likely(), choices, strict=True):
            if node == self.node and not self.take(choice, ends):
                return False
        return True

    def take(self, choice: Choice, ends: frozenset[int]) -> bool:
        """Go on to a chosen token; whether the pass computed what comes after it."""
        self.choices.append(choice)
        left = (self.branch.sampling.max_tokens or 1) - len(self.branch.drawn) - len(self.choices)
        child = self.draft.child(self.node, choice.token)
        if child is None or left <= 0 or choice.token in ends:
            return False
        self.accepted.append(child)
        self.node = child
        return True


Verify = Callable[[Tensor, Sequence[Walk], frozenset[int]], None]
"""Draws from logits [rows, vocabulary] for every branch, as far as its drafts reach; the last argument: tokens that end
a branch."""


def walk(logits: Tensor, walks: Sequence[Walk], ends: frozenset[int]) -> None:
    """Draw from logits [rows, vocabulary] for every branch, as far as its drafts reach."""
    going = list(walks)
    while going:
        asked = [one.draws() for one in going]
        drawn = draw(logits, [d for draws in asked for d in draws])
        found = zip(drawn.tokens.tolist(), drawn.logprobs.tolist(), drawn.alternatives(), strict=True)
        further = []
        for one, draws in zip(going, asked, strict=True):
            shown = one.branch.sampling.logprobs
            choices = [Choice(token, logprob, others[:shown]) for token, logprob, others in islice(found, len(draws))]
            if one.follow(choices, ends):
                further.append(one)
        going = further
