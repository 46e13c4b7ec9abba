"""Textbook speculative sampling: a drafted token is accepted by chance, and what replaces a rejected one is drawn from
what the target has left (Leviathan et al. 2023, arXiv 2211.17192; several drafts one after another as in SpecInfer,
2305.09781).

The distribution is the target's, whatever was drafted; the tokens are not those of plain decoding. Of drafts drawn
from a distribution it accepts more than noise in common does: 1 - TV against (1 - TV) / (1 + TV).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.engine.sampling.candidates import precise
from branchwise.backends.engine.sampling.noise import signed, uniform
from branchwise.backends.engine.speculation.verify import Choice, Walk
from branchwise.core.keys import child_key
from branchwise.core.path import TopLogprob
from branchwise.core.sampling import Sampling

_DRAFTS, _TRIALS = 1 << 61, (1 << 61) + 1  # "children" of a key that no sample has
_RESIDUAL = -1  # the "token" whose number picks a replacement


def draft_key(key: int) -> int:
    """The key a branch's drafts are drawn with: they must not know what the verifier will draw."""
    return child_key(key, _DRAFTS)


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities [vocabulary], float64, after temperature, top-k, top-p and min-p, in that order."""
    if sampling.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).index_fill_(0, logits.argmax(), 1.0)
    weights = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    largest, order = torch.sort(weights, descending=True, stable=True)
    kept = torch.arange(len(order), device=logits.device) < (sampling.top_k or len(order))
    largest = largest * kept
    before = largest.cumsum(dim=-1) - largest
    if sampling.top_p < 1:
        kept &= before < sampling.top_p * largest.sum()
    kept &= largest >= sampling.min_p * largest[0]
    return torch.zeros_like(weights).index_copy_(0, order, largest * kept / (largest * kept).sum())


def reject(logits: Tensor, walks: Sequence[Walk], ends: frozenset[int]) -> None:
    """Draw from logits [rows, vocabulary] for every branch, as far as its drafts are accepted."""
    known: dict[tuple[int, Sampling], Tensor] = {}  # branches at one place share their rows
    for one in walks:
        sampling, going = one.branch.sampling, True
        while going:
            row = one.row + 1 + one.node
            if (row, sampling) not in known:
                known[row, sampling] = distribution(logits[row], sampling)
            going = one.take(_choice(logits[row], _chosen(known[row, sampling], one), sampling.logprobs), ends)


def _chosen(left: Tensor, one: Walk) -> int:
    """The first draft behind the walk's node that is accepted, or a replacement, from what the target says there."""
    key, position = child_key(one.branch.key, _TRIALS), one.position + len(one.choices)
    for trial, node in enumerate(one.draft.children(one.node)):
        token = one.draft.nodes[node].token
        drawn_from = one.draft.drawn_from.get(node)
        if drawn_from is None:  # proposed for certain
            drawn_from = torch.zeros_like(left)
            drawn_from[token] = 1.0
        if _number(key, position, trial) * drawn_from[token] < left[token]:
            return token
        left = (left - drawn_from).clamp_(min=0)
        left /= left.sum()
    cumulative = left.cumsum(dim=-1)
    point = _number(key, position, _RESIDUAL) * cumulative[-1]
    return int(torch.searchsorted(cumulative, point, right=True))


def _number(key: int, position: int, token: int) -> Tensor:
    """Uniform in (0, 1)."""
    return uniform(*(torch.tensor(part) for part in (signed(key), position, token)))


def _choice(logits: Tensor, token: int, shown: int) -> Choice:
    logprobs = precise(logits).log_softmax(dim=-1)
    top = torch.topk(logprobs, shown)
    others = tuple(map(TopLogprob, top.indices.tolist(), top.values.tolist()))
    return Choice(token, float(logprobs[token]), others)
