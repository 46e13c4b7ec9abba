"""Verification: sample the target's token at every position and follow the draft tree for as long as it agrees.

The noise of a token depends only on its branch's key and its position (see `sampler`), so the sampled tokens are the
same with any drafts and with none. Drafts only decide how many tokens one pass yields.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.sampling.sampler import SampleRequest, sample
from branchwise.backends.engine.speculation.draft import ROOT, Draft
from branchwise.core.path import TopLogprob

log = logging.getLogger(__name__)

_LIKELY = 0.5  # least probability of a path to sample ahead of: one more request costs an eighth of one more round


@dataclass(slots=True, eq=False)
class Verification:
    """The tokens sampled for one branch in one pass, and the node of its draft tree they lead to."""

    branch: EngineBranch
    position: int  # of the first token to sample
    row: int  # of the logits it is sampled from; the rows of the draft's nodes follow
    draft: Draft = field(default_factory=Draft)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # [tokens] nats
    top_logprobs: list[tuple[TopLogprob, ...]] = field(default_factory=list)  # [tokens]
    accepted: list[int] = field(default_factory=list)  # nodes, in order: those of all tokens but the last
    node: int = ROOT  # the last accepted node
    error: Exception | None = None  # the reason why nothing could be sampled for this branch

    @property
    def next_row(self) -> int:
        """Row of the logits that the next token is sampled from."""
        return self.row + 1 + self.node

    def likely_path(self) -> list[int]:
        """Return the current node and its most probable descendants, while they are likely to be reached."""
        nodes, probability = [self.node], 1.0
        while True:
            child = self.draft.first_child(nodes[-1])
            if child is None or probability * self.draft.nodes[child].probability < _LIKELY:
                return nodes
            probability *= self.draft.nodes[child].probability
            nodes.append(child)

    def sample_requests(self) -> list[SampleRequest]:
        """Return a request for the token after each node of the likely path."""
        sampling, key, first = self.branch.sampling, self.branch.key, self.position + len(self.tokens)
        return [
            SampleRequest(sampling, key, first + i, self.row + 1 + node) for i, node in enumerate(self.likely_path())
        ]

    def restart(self, error: Exception | None = None) -> None:
        """Forget what was sampled in this pass."""
        for sampled in (self.tokens, self.logprobs, self.top_logprobs, self.accepted):
            sampled.clear()
        self.node, self.error = ROOT, error

    def append(
        self, token: int, logprob: float, top_logprobs: tuple[TopLogprob, ...], end_tokens: frozenset[int]
    ) -> bool:
        """Append a sampled token and accept its node. Return whether the pass has logits for the next token."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.top_logprobs.append(top_logprobs)
        left = (self.branch.sampling.max_tokens or 1) - len(self.branch.sampled) - len(self.tokens)
        child = self.draft.child(self.node, token)
        if child is None or left <= 0 or token in end_tokens:
            return False
        self.accepted.append(child)
        self.node = child
        return True


Verifier = Callable[[Tensor, Sequence[Verification], frozenset[int]], None]
"""Sample tokens for every branch from logits [rows, vocabulary]; the last argument: tokens that end a branch."""


def verify_keyed(logits: Tensor, verifications: Sequence[Verification], end_tokens: frozenset[int]) -> None:
    """Sample from logits [rows, vocabulary] for every branch until the target's token is not in its draft."""
    running = list(verifications)
    while running:
        requests = [one.sample_requests() for one in running]
        samples = sample(logits, [request for of_branch in requests for request in of_branch])
        rows = zip(samples.tokens.tolist(), samples.logprobs.tolist(), samples.alternatives(), strict=True)
        unfinished = []
        for one, of_branch in zip(running, requests, strict=True):
            shown, continues = one.branch.sampling.logprobs, True
            for request, (token, logprob, top) in zip(of_branch, islice(rows, len(of_branch)), strict=True):
                # Samples after a rejected node are discarded.
                if continues and request.row == one.next_row:
                    continues = one.append(token, logprob, top[:shown], end_tokens)
            if continues:
                unfinished.append(one)
        running = unfinished


def verify_isolated(
    verify: Verifier, logits: Tensor, verifications: Sequence[Verification], end_tokens: frozenset[int]
) -> None:
    """Verify all branches together, or each alone if that raises, so that a branch that fails ends no other.

    The error is kept in its `Verification`. Noise is keyed, so the tokens of the others are the same.
    """
    try:
        verify(logits, verifications, end_tokens)
    except Exception:
        log.warning("sampling for a step failed; its branches are sampled one by one", exc_info=True)
        for one in verifications:
            one.restart()
        for one in verifications:
            try:
                verify(logits, [one], end_tokens)
            except Exception as error:
                one.restart(error)
