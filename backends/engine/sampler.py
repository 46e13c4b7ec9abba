"""Draw tokens for a batch of branches, each with its own settings and its own keyed noise.

The choice is argmax over tokens of log p + Gumbel noise (the Gumbel-max trick), p the distribution
after temperature, top-k, top-p and min-p, in that order. Only the most probable `CANDIDATES` tokens
get noise of their own; the rest share one bucket and, should it win, one keyed uniform picks among
them. That is exact, and costs a fraction of noise over a vocabulary of 150,000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from branchwise.backends.engine.noise import TAIL_BUCKET, TAIL_CHOICE, gumbel, signed, uniform
from branchwise.sampling import Sampling

CANDIDATES = 256


@dataclass(frozen=True, slots=True)
class Draw:
    """One row to sample: its settings, its key and the absolute position of the token to draw."""

    sampling: Sampling
    key: int
    position: int


class Drawn(NamedTuple):
    """[rows] tokens and their log-probabilities under the model itself; [rows, n] the top alternatives."""

    tokens: Tensor
    logprobs: Tensor
    top_tokens: Tensor
    top_logprobs: Tensor


def draw(logits: Tensor, draws: Sequence[Draw]) -> Drawn:
    """Sample one token for each row of `logits` [rows, vocabulary]."""
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    vocabulary = logits.shape[-1]
    values, ids = _sorted_candidates(logits, min(vocabulary, _width(draws)))
    total = torch.logsumexp(logits, dim=-1)
    greedy = _column(logits, [d.sampling.temperature == 0 for d in draws], torch.bool)
    if bool(greedy.all()):
        tokens = ids[:, 0]
    else:
        tokens = torch.where(greedy[:, 0], ids[:, 0], _noisy_choice(logits, values, ids, draws))
    chosen = logits.gather(1, tokens[:, None])[:, 0] - total
    shown = max(d.sampling.logprobs for d in draws)
    return Drawn(tokens, chosen, ids[:, :shown], values[:, :shown] - total[:, None])


def _width(draws: Sequence[Draw]) -> int:
    """Enough candidates for the widest top-k; all of the vocabulary is never needed up front."""
    least = 64 if all(d.sampling.temperature == 0 for d in draws) else CANDIDATES
    return max(least, *(max(d.sampling.top_k, d.sampling.logprobs) for d in draws))


def _sorted_candidates(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest logits and their ids, largest first, equal ones by id: bf16 logits tie often."""
    values, ids = torch.topk(logits, width, dim=-1, sorted=False)
    ids, order = torch.sort(ids, dim=-1)
    values, order = torch.sort(values.gather(1, order), dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def _column(like: Tensor, values: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=dtype or like.dtype)[:, None]


def _noisy_choice(logits: Tensor, values: Tensor, ids: Tensor, draws: Sequence[Draw]) -> Tensor:
    """[rows] tokens drawn with keyed noise (rows with temperature 0 hold anything)."""
    temperature = _column(logits, [d.sampling.temperature or 1.0 for d in draws])
    keys = _column(logits, [signed(d.key) for d in draws], torch.int64)
    positions = _column(logits, [d.position for d in draws], torch.int64)
    scaled = values / temperature
    kept, tail, short = _filter(logits, scaled, temperature, draws)
    noisy = torch.where(kept, scaled.double() + gumbel(keys, positions, ids), -torch.inf)
    best, index = noisy.max(dim=-1)
    tokens = ids.gather(1, index[:, None])[:, 0]
    bucket = gumbel(keys, positions, torch.full_like(keys, TAIL_BUCKET))[:, 0] + tail.double()
    for row in torch.nonzero(short).flatten().tolist():
        tokens[row] = _full_choice(logits[row], draws[row])
    for row in torch.nonzero((bucket > best) & ~short).flatten().tolist():
        tokens[row] = _tail_choice(logits[row], ids[row, :CANDIDATES], draws[row])
    return tokens


def _filter(
    logits: Tensor, scaled: Tensor, temperature: Tensor, draws: Sequence[Draw]
) -> tuple[Tensor, Tensor, Tensor]:
    """Which candidates each row keeps [rows, width], the log of the weight left outside them [rows]
    (in the units of `scaled`), and the rows whose filters reach beyond the candidates [rows]."""
    width, vocabulary = scaled.shape[1], logits.shape[-1]
    rank = torch.arange(width, device=scaled.device)
    reach = _column(logits, [_reach(d.sampling, vocabulary) for d in draws], torch.int64)
    top_p = _column(logits, [d.sampling.top_p for d in draws])
    min_p = _column(logits, [d.sampling.min_p for d in draws])
    unbounded = _column(logits, [d.sampling.top_k == 0 for d in draws], torch.bool)[:, 0]
    open_tail = unbounded & (reach[:, 0].clamp(max=width) < vocabulary)
    in_reach = rank < reach
    inside = torch.where(in_reach, scaled, -torch.inf).logsumexp(dim=-1, keepdim=True)
    total = torch.where(open_tail[:, None], torch.logsumexp(logits / temperature, dim=-1, keepdim=True), inside)
    weights = torch.exp(scaled - total)
    before = weights.cumsum(dim=-1) - weights
    kept = in_reach & (before < top_p) & (weights >= min_p * weights[:, :1])
    kept[:, 0] = True
    # A top-p or min-p cut that has not happened by the last candidate may fall anywhere after it.
    filtered = (top_p[:, 0] < 1) | (min_p[:, 0] > 0)
    short = open_tail & filtered & kept[:, -1]
    has_tail = open_tail & ~filtered
    tail = total[:, 0] + torch.log1p(-torch.exp(inside[:, 0] - total[:, 0]).clamp(max=1.0))
    return kept, torch.where(has_tail, tail, -torch.inf), short


def _reach(sampling: Sampling, vocabulary: int) -> int:
    """How many of the largest logits one row looks at one by one: its own business, whatever the other rows need."""
    if sampling.top_k:
        return sampling.top_k
    return vocabulary if sampling.top_p < 1 or sampling.min_p > 0 else CANDIDATES


def _full_choice(logits: Tensor, draw_: Draw) -> Tensor:
    """A draw from one row whose filters keep more than the candidates: the whole vocabulary, sorted."""
    values, ids = _sorted_candidates(logits[None], logits.shape[-1])
    scaled = values / draw_.sampling.temperature
    temperature = _column(logits, [draw_.sampling.temperature])
    kept, _, _ = _filter(logits[None], scaled, temperature, [draw_])
    noise = gumbel(_key(draw_, ids), _position(draw_, ids), ids)
    return ids[0, torch.where(kept, scaled.double() + noise, -torch.inf).argmax()]


def _tail_choice(logits: Tensor, candidates: Tensor, draw_: Draw) -> Tensor:
    """A draw from one row's tokens outside `candidates`, by inverse distribution function."""
    weights = torch.softmax(logits.double() / draw_.sampling.temperature, dim=-1)
    weights[candidates] = 0.0
    cumulative = weights.cumsum(dim=-1)
    token = torch.full((1,), TAIL_CHOICE, device=logits.device, dtype=torch.int64)
    point = uniform(_key(draw_, token), _position(draw_, token), token) * cumulative[-1]
    return torch.searchsorted(cumulative, point, right=True)[0].clamp(max=logits.shape[-1] - 1)


def _key(draw_: Draw, like: Tensor) -> Tensor:
    return torch.full_like(like, signed(draw_.key))


def _position(draw_: Draw, like: Tensor) -> Tensor:
    return torch.full_like(like, draw_.position)
