"""The most probable tokens of each row, and what its probabilities sum to, without sorting a vocabulary.

A step of 64 branches has 10 million logits: every pass over them counts, and so does every large
temporary (above 32 MB the C library maps fresh pages each time, which takes longer than the sum).
"""

from typing import NamedTuple

import torch
from torch import Tensor

_FOLD = 32  # logits are compared in columns of so many first
_SMALL = 16_384  # a vocabulary below this is searched directly
_ROWS = 4  # rows in float32 at a time on a CPU: they stay in the cache


class Candidates(NamedTuple):
    """The largest logits of each row, largest first, equal ones by id."""

    values: Tensor  # [rows, width] float32 (float64 for float64 logits)
    ids: Tensor  # [rows, width]


def largest(logits: Tensor, width: int) -> Candidates:
    """The `width` largest logits of each row of `logits` [rows, vocabulary]."""
    values, ids = _top(logits, min(width, logits.shape[-1]))
    ids, order = torch.sort(ids, dim=-1)
    values, order = torch.sort(precise(values).gather(1, order), dim=-1, descending=True, stable=True)
    return Candidates(values, ids.gather(1, order))


def log_normalizer(logits: Tensor, most: Tensor, temperature: float = 1.0) -> Tensor:
    """[rows] log of the sum of exp(logits / temperature), in float32 or better.

    `most` [rows] is the largest logit of each row, in that type. As torch.logsumexp, in half the time: one block
    of memory serves all rows, in place.
    """
    count = min(_ROWS, len(logits)) if logits.device.type == "cpu" else len(logits)
    block = most.new_empty(count, logits.shape[-1])
    sums = []
    for part, highest in zip(logits.split(count), most.split(count), strict=True):
        weights = block[: len(part)].copy_(part).sub_(highest[:, None])
        sums.append((weights if temperature == 1 else weights.div_(temperature)).exp_().sum(dim=-1))
    return torch.cat(sums).log() + most / temperature


def precise(logits: Tensor) -> Tensor:
    """In float32 or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _top(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest and their ids, in any order.

    The vocabulary is folded into columns; the largest `width` values lie in the `width` columns with the
    largest maxima. Finding the maxima is one vectorized pass, and leaves a thirtieth to search.
    """
    rows, vocabulary = logits.shape
    columns = vocabulary // _FOLD
    if vocabulary < _SMALL or width > columns // 4:
        top = torch.topk(logits, width, dim=-1, sorted=False)
        return top.values, top.indices
    folded = logits[:, : columns * _FOLD].unflatten(1, (_FOLD, columns))
    best = torch.topk(folded.amax(dim=1), width, dim=-1, sorted=False).indices  # [rows, width] columns
    place = best[:, None, :] + torch.arange(0, columns * _FOLD, columns, device=logits.device)[:, None]
    rest = torch.arange(columns * _FOLD, vocabulary, device=logits.device)  # what the folding leaves over
    ids = torch.cat([place.flatten(1), rest.expand(rows, -1)], dim=1)
    top = torch.topk(logits.gather(1, ids), width, dim=-1, sorted=False)
    return top.values, ids.gather(1, top.indices)
