"""Rejection sampling: the textbook verifier, distribution-exact but not token-identical to plain decoding.

A draft is accepted with probability min(1, p / q); a rejected one is replaced by a sample from norm(max(0, p - q))
(Leviathan et al. 2023, arXiv 2211.17192). Several drafts of one position are tried in turn (SpecInfer, 2305.09781). A
sampled draft is accepted with probability 1 - TV, against (1 - TV) / (1 + TV) under shared noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.engine.sampling.candidates import precise
from branchwise.backends.engine.sampling.distribution import distribution
from branchwise.backends.engine.sampling.noise import signed, uniform
from branchwise.backends.engine.speculation.verify import Verification
from branchwise.core.keys import child_key
from branchwise.core.path import TopLogprob
from branchwise.core.sampling import Sampling

_DRAFTS, _TRIALS = 1 << 61, (1 << 61) + 1  # children of a branch's key that no sample uses
_REPLACEMENT = -1  # the token id whose noise samples a replacement


def draft_key(key: int) -> int:
    """Return the key that a branch's drafts are sampled with, which must be independent of the verifier's."""
    return child_key(key, _DRAFTS)


def verify_by_rejection(logits: Tensor, verifications: Sequence[Verification], end_tokens: frozenset[int]) -> None:
    """Sample from logits [rows, vocabulary] for every branch until a draft is rejected."""
    distributions: dict[tuple[int, Sampling], Tensor] = {}  # branches with the same tokens share rows
    for one in verifications:
        sampling, continues = one.branch.sampling, True
        while continues:
            row = one.next_row
            if (row, sampling) not in distributions:
                distributions[row, sampling] = distribution(logits[row], sampling)
            token = _accept_or_replace(distributions[row, sampling], one)
            logprobs = precise(logits[row]).log_softmax(dim=-1)
            top = torch.topk(logprobs, sampling.logprobs)
            alternatives = tuple(map(TopLogprob, top.indices.tolist(), top.values.tolist()))
            continues = one.append(token, float(logprobs[token]), alternatives, end_tokens)


def _accept_or_replace(target: Tensor, one: Verification) -> int:
    """Return the first accepted child of the current node, or a replacement; `target` [vocabulary] probabilities."""
    key, position = child_key(one.branch.key, _TRIALS), one.position + len(one.tokens)
    for trial, node in enumerate(one.draft.children(one.node)):
        token = one.draft.nodes[node].token
        proposal = one.draft.distributions.get(node)
        if proposal is None:  # a lookup proposes its token with probability 1
            proposal = torch.zeros_like(target)
            proposal[token] = 1.0
        if _uniform(key, position, trial) * proposal[token] < target[token]:
            return token
        target = (target - proposal).clamp_(min=0)
        target /= target.sum()
    cumulative = target.cumsum(dim=-1)
    point = _uniform(key, position, _REPLACEMENT) * cumulative[-1]
    return int(torch.searchsorted(cumulative, point, right=True))


def _uniform(key: int, position: int, token: int) -> Tensor:
    """Return a keyed number in (0, 1)."""
    return uniform(*(torch.tensor(part) for part in (signed(key), position, token)))
