"""Exact sampling distributions, and a chi-square test of counts against them."""

from collections.abc import Sequence

import torch
from scipy.stats import chisquare
from torch import Tensor

from branchwise.core.sampling import Sampling

MIN_EXPECTED = 10  # of a cell: the chi-square approximation holds from here on


def exact(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return [vocabulary] probabilities after temperature, top-k, top-p and min-p, the slow and obvious way."""
    weights = torch.softmax(logits / sampling.temperature, dim=-1)
    order = sorted(range(len(weights)), key=lambda token: (-weights[token].item(), token))
    kept = order[: sampling.top_k or len(order)]
    total = sum(weights[token].item() for token in kept)
    nucleus: list[int] = []
    reached = 0.0
    for token in kept:
        if reached < sampling.top_p * total:
            nucleus.append(token)
        reached += weights[token].item()
    least = sampling.min_p * weights[order[0]].item()
    final = torch.zeros_like(weights)
    for token in nucleus:
        if weights[token].item() >= least:
            final[token] = weights[token]
    return final / final.sum()


def fit(counts: Sequence[float], expected: Sequence[float]) -> float:
    """Return the p-value of counts; neighbours are merged until MIN_EXPECTED are expected of each cell."""
    seen, hoped = [0.0], [0.0]
    for count, hope in zip(counts, expected, strict=True):
        if hoped[-1] >= MIN_EXPECTED:
            seen, hoped = [*seen, 0.0], [*hoped, 0.0]
        seen[-1], hoped[-1] = seen[-1] + count, hoped[-1] + hope
    if hoped[-1] < MIN_EXPECTED:
        seen, hoped = [*seen[:-2], seen[-2] + seen[-1]], [*hoped[:-2], hoped[-2] + hoped[-1]]
    return float(chisquare(seen, hoped).pvalue)
