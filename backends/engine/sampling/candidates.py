"""Top-k and log-normalizer of large logits, without sorting a vocabulary or large temporaries.

A step of 64 branches has 10 million logits: every pass over them counts, and so does every temporary above 32 MB, for
which the C library maps fresh pages each time. That takes longer than the sum.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_FOLD = 32  # rows that a vocabulary is folded into
_MIN_FOLDED = 16_384  # a smaller vocabulary is searched directly
_CPU_BLOCK = 1  # rows: with several, how a CPU adds up one of them depends on how many there are


class Candidates(NamedTuple):
    """The largest logits of each row in descending order, equal ones by token id."""

    values: Tensor  # [rows, width] float32 (float64 for float64 logits)
    ids: Tensor  # [rows, width]


def largest(logits: Tensor, width: int) -> Candidates:
    """Return the `width` largest logits of each row of `logits` [rows, vocabulary]."""
    values, ids = _top(logits, min(width, logits.shape[-1]))
    ids, order = torch.sort(ids, dim=-1)
    values, order = torch.sort(precise(values).gather(1, order), dim=-1, descending=True, stable=True)
    return Candidates(values, ids.gather(1, order))


def log_normalizer(logits: Tensor, most: Tensor, temperature: float = 1.0) -> Tensor:
    """Return [rows] log of the sum of exp(logits / temperature), in float32 or better.

    `most` [rows] is the largest logit of each row, in that type. One block of memory serves all rows in place, which
    takes half the time of torch.logsumexp.
    """
    count = min(_CPU_BLOCK, len(logits)) if logits.device.type == "cpu" else len(logits)
    block = most.new_empty(count, logits.shape[-1])
    sums = []
    for part, highest in zip(logits.split(count), most.split(count), strict=True):
        weights = block[: len(part)].copy_(part).sub_(highest[:, None])
        sums.append((weights if temperature == 1 else weights.div_(temperature)).exp_().sum(dim=-1))
    return torch.cat(sums).log() + most / temperature


def precise(logits: Tensor) -> Tensor:
    """Return the logits in float32 or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _top(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the `width` largest values and their ids, in any order.

    The vocabulary is folded into columns. The `width` largest values lie in the `width` columns with the largest
    maxima; finding these is one vectorized pass, and leaves a thirtieth of the vocabulary to search.
    """
    rows, vocabulary = logits.shape
    columns = vocabulary // _FOLD
    if vocabulary < _MIN_FOLDED or width > columns // 4:
        top = torch.topk(logits, width, dim=-1, sorted=False)
        return top.values, top.indices
    folded = logits[:, : columns * _FOLD].unflatten(1, (_FOLD, columns))
    best = torch.topk(folded.amax(dim=1), width, dim=-1, sorted=False).indices  # [rows, width] columns
    place = best[:, None, :] + torch.arange(0, columns * _FOLD, columns, device=logits.device)[:, None]
    rest = torch.arange(columns * _FOLD, vocabulary, device=logits.device)  # beyond the last full fold
    ids = torch.cat([place.flatten(1), rest.expand(rows, -1)], dim=1)
    top = torch.topk(logits.gather(1, ids), width, dim=-1, sorted=False)
    return top.values, ids.gather(1, top.indices)
