"""Drafters that compute: they draw a chain of tokens for every branch, all branches side by side.

A chain is drawn with the noise the target will draw with, from the drafter's own distribution: where the two
distributions are alike, so are the draws (with probability at least (1 - TV) / (1 + TV); Daliri et al. 2024,
arXiv 2408.07978). Rejection sampling wants draws of their own, and to know what they were drawn from.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from branchwise.backends.engine.sampling.sampler import Draw, draw
from branchwise.backends.engine.speculation.draft import ROOT, Node
from branchwise.backends.engine.speculation.drafter import Ask, Drafter
from branchwise.backends.engine.speculation.rejection import distribution, draft_key


@dataclass(slots=True)
class Chain:
    """How far a branch's chain has got."""

    ask: Ask
    last: int  # the latest token
    position: int  # of that token
    node: int = ROOT


class ChainDrafter(Drafter):
    """What they share: the drawing."""

    def __init__(self, *, rejection: bool) -> None:
        """`rejection`: the verifier will sample by rejection."""
        self._rejection = rejection

    def propose(self, asks: Sequence[Ask]) -> None:
        with self._begun(asks) as chains:
            for step in range(max((chain.ask.budget for chain in chains), default=0)):
                logits = self._logits(chains)
                if logits is None:
                    return
                self._draw(chains, logits, step)

    @abstractmethod
    def _begun(self, asks: Sequence[Ask]) -> AbstractContextManager[Sequence[Chain]]:
        """Chains at the ends of their paths, without those there is no room for; at its end everything is given
        back that was taken for them."""

    @abstractmethod
    def _logits(self, chains: Sequence[Chain]) -> Tensor | None:
        """Logits [chains, vocabulary] behind the latest tokens; None where there is no room."""

    def _draw(self, chains: Sequence[Chain], logits: Tensor, step: int) -> None:
        """Every chain's next token."""
        asked: list[Draw] = []
        for row, chain in enumerate(chains):
            branch = chain.ask.branch
            key = draft_key(branch.key) if self._rejection else branch.key
            asked.append(Draw(branch.sampling, key, chain.position + 1, row))
        drawn = draw(logits, asked)
        tokens, chances = drawn.tokens.tolist(), drawn.logprobs.exp().tolist()
        for row, (chain, token, chance) in enumerate(zip(chains, tokens, chances, strict=True)):
            draft = chain.ask.draft
            chain.node = draft.add(Node(chain.node, token, chance, 1 + step, 1, self.name))
            chain.last, chain.position = token, chain.position + 1
            if self._rejection:
                draft.drawn_from[chain.node] = distribution(logits[row], chain.ask.branch.sampling)
