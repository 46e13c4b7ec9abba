"""Drafters that run a model: they sample a chain of tokens for every branch, all branches in one batch.

Under keyed acceptance a chain is sampled from the drafter's distribution with the target's noise. Both samples agree
with probability at least (1 - TV) / (1 + TV) (Daliri et al. 2024, arXiv 2408.07978). Under rejection sampling a chain
needs noise of its own, and the verifier needs the distributions it was sampled from.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from branchwise.backends.engine.sampling.distribution import distribution
from branchwise.backends.engine.sampling.sampler import SampleRequest, sample
from branchwise.backends.engine.speculation.draft import ROOT, Node
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.rejection import draft_key


@dataclass(slots=True)
class Chain:
    """A chain of drafts for one branch."""

    request: DraftRequest
    token: int  # the last one
    position: int  # of that token
    node: int = ROOT  # of that token


class ChainDrafter(Drafter):
    """A drafter that samples chains; a subclass computes the logits."""

    def __init__(self, *, rejection: bool) -> None:
        """`rejection`: the verifier uses rejection sampling."""
        self._rejection = rejection

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        with self._started(requests) as chains:
            for step in range(max((chain.request.budget for chain in chains), default=0)):
                logits = self._logits(chains)
                if logits is None:
                    return
                self._extend(chains, logits, step)

    @abstractmethod
    def _started(self, requests: Sequence[DraftRequest]) -> AbstractContextManager[Sequence[Chain]]:
        """Return chains at the ends of their branches, those that fit in memory, and free that memory on exit."""

    @abstractmethod
    def _logits(self, chains: Sequence[Chain]) -> Tensor | None:
        """Return logits [chains, vocabulary] after the last tokens, or None when memory is exhausted."""

    def _extend(self, chains: Sequence[Chain], logits: Tensor, step: int) -> None:
        """Sample the next token of every chain."""
        requests: list[SampleRequest] = []
        for row, chain in enumerate(chains):
            branch = chain.request.branch
            key = draft_key(branch.key) if self._rejection else branch.key
            requests.append(SampleRequest(branch.sampling, key, chain.position + 1, row))
        samples = sample(logits, requests)
        tokens, probabilities = samples.tokens.tolist(), samples.logprobs.exp().tolist()
        for row, (chain, token, probability) in enumerate(zip(chains, tokens, probabilities, strict=True)):
            draft = chain.request.draft
            chain.node = draft.add(Node(chain.node, token, probability, 1 + step, 1, self.name))
            chain.token, chain.position = token, chain.position + 1
            if self._rejection:
                draft.distributions[chain.node] = distribution(logits[row], chain.request.branch.sampling)
