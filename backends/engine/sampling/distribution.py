"""The distribution tokens are sampled from: temperature, then top-k, top-p and min-p, in that order.

The sampler applies the filters to its candidates, rejection sampling to whole rows.
"""

import torch
from torch import Tensor

from branchwise.core.sampling import Sampling


def filter_mask(weights: Tensor, in_top_k: Tensor, top_p: Tensor | float, min_p: Tensor | float) -> Tensor:
    """Return [..., width] which tokens the filters keep; the most probable one always.

    `weights` [..., width] are probabilities in descending order that sum to 1 over `in_top_k`; top-p and min-p
    broadcast against them.
    """
    before = weights.cumsum(dim=-1) - weights
    kept = in_top_k & ((before < top_p) | (top_p == 1)) & (weights >= min_p * weights[..., :1])
    kept[..., 0] = True
    return kept


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return probabilities [vocabulary], float64, for one row of logits [vocabulary]."""
    if sampling.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).index_fill_(0, logits.argmax(), 1.0)
    weights, order = torch.sort(
        torch.softmax(logits.double() / sampling.temperature, dim=-1), descending=True, stable=True
    )
    in_top_k = torch.arange(len(order), device=logits.device) < (sampling.top_k or len(order))
    weights /= (weights * in_top_k).sum()
    weights *= filter_mask(weights, in_top_k, sampling.top_p, sampling.min_p)
    return torch.zeros_like(weights).index_copy_(0, order, weights / weights.sum())
