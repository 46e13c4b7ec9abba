"""Draw tokens for a batch of branches, each with its own settings and its own keyed noise.

The choice is argmax over tokens of log p + Gumbel noise (the Gumbel-max trick), p the distribution
after temperature, top-k, top-p and min-p, in that order. Only the most probable `CANDIDATES` tokens
get noise of their own; the rest share one bucket and, should it win, one keyed uniform picks among
them. That is exact, and costs a fraction of noise over a vocabulary of 150,000. What the bucket weighs
is computed only where an upper bound of it might win.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from branchwise.backends.engine.sampling.candidates import Candidates, largest, log_normalizer, precise
from branchwise.backends.engine.sampling.noise import TAIL_BUCKET, TAIL_CHOICE, gumbel, signed, uniform
from branchwise.core.path import TopLogprob
from branchwise.core.sampling import Sampling

CANDIDATES = 128

_TAILS = 16  # draws whose buckets are looked at together: of 150,000 tokens, 20 MB
_WORTH_A_COPY = 0.8  # of the rows: a copy of those that are used takes longer than to look at the rest, too
_SLACK = 1e-5  # covers the rounding of a float32 normalizer in the bound of the bucket's weight


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to draw: its settings, its key, its absolute position, and the logits it is drawn from."""

    sampling: Sampling
    key: int
    position: int
    row: int  # of the logits


class Drawn(NamedTuple):
    """[draws] tokens and their log-probabilities under the model itself; [draws, n] the top alternatives."""

    tokens: Tensor
    logprobs: Tensor
    top_tokens: Tensor
    top_logprobs: Tensor

    def alternatives(self) -> list[tuple[TopLogprob, ...]]:
        """The top alternatives of each draw."""
        tokens, logprobs = self.top_tokens.tolist(), self.top_logprobs.tolist()
        return [tuple(map(TopLogprob, *row)) for row in zip(tokens, logprobs, strict=True)]


def draw(logits: Tensor, draws: Sequence[Draw]) -> Drawn:
    """Draw from `logits` [rows, vocabulary]; several draws may share a row, and rows nobody draws from cost little."""
    used = sorted({d.row for d in draws})
    if len(used) < _WORTH_A_COPY * len(logits):
        logits = logits[torch.tensor(used, device=logits.device)]
        place = {row: i for i, row in enumerate(used)}
        draws = [replace(d, row=place[d.row]) for d in draws]
    rows = torch.tensor([d.row for d in draws], device=logits.device)
    values, ids = largest(logits, _width(draws))
    found, total = Candidates(values[rows], ids[rows]), log_normalizer(logits, values[:, 0])[rows]
    greedy = _column(found.values, [d.sampling.temperature == 0 for d in draws], torch.bool)[:, 0]
    tokens = found.ids[:, 0]
    if not bool(greedy.all()):
        tokens = torch.where(greedy, tokens, _Choice(logits, found, total, draws).tokens())
    chosen = precise(logits[rows, tokens]) - total
    shown = max(d.sampling.logprobs for d in draws)
    return Drawn(tokens, chosen, found.ids[:, :shown], found.values[:, :shown] - total[:, None])


def _width(draws: Sequence[Draw]) -> int:
    """Enough candidates for the widest top-k; all of the vocabulary is never needed up front."""
    return max(CANDIDATES, *(max(d.sampling.top_k, d.sampling.logprobs) for d in draws))


class _Choice:
    """The draws (those with temperature 0 get anything)."""

    def __init__(self, logits: Tensor, found: Candidates, total: Tensor, draws: Sequence[Draw]) -> None:
        values = found.values
        self.logits, self.found, self.total, self.draws = logits, found, total, draws
        self.temperature = _column(values, [d.sampling.temperature or 1.0 for d in draws])
        self.keys = _column(values, [signed(d.key) for d in draws], torch.int64)
        self.positions = _column(values, [d.position for d in draws], torch.int64)
        self.scaled = values / self.temperature
        reach = _column(values, [_reach(d.sampling, logits.shape[-1]) for d in draws], torch.int64)
        self.in_reach = torch.arange(values.shape[1], device=values.device) < reach

    def tokens(self) -> Tensor:
        """[draws]"""
        kept, short = self._filtered()
        noisy = torch.where(kept, self.scaled.double() + gumbel(self.keys, self.positions, self.found.ids), -torch.inf)
        best, index = noisy.max(dim=-1)
        tokens = self.found.ids.gather(1, index[:, None])[:, 0]
        for i in torch.nonzero(short).flatten().tolist():
            tokens[i] = _full_choice(self.logits[self.draws[i].row], self.draws[i])
        bucket = gumbel(self.keys, self.positions, torch.full_like(self.keys, TAIL_BUCKET))[:, 0]
        might = torch.nonzero(bucket + self._tail_bound() > best).flatten()
        for some in might.split(_TAILS) if len(might) else ():
            weights = self._tail_weights(some)
            wins = bucket[some] + weights.logsumexp(dim=-1) > best[some]
            tokens[some[wins]] = self._tail_choices(weights[wins], some[wins])
        return tokens

    def _filtered(self) -> tuple[Tensor, Tensor]:
        """Which candidates each draw keeps [draws, width], and the draws whose filters reach beyond them [draws]."""
        top_p = _column(self.scaled, [d.sampling.top_p for d in self.draws])
        min_p = _column(self.scaled, [d.sampling.min_p for d in self.draws])
        weights = torch.exp(self.scaled - self._normalizer())
        before = weights.cumsum(dim=-1) - weights
        kept = self.in_reach & ((before < top_p) | (top_p == 1)) & (weights >= min_p * weights[:, :1])
        kept[:, 0] = True
        # A top-p or min-p cut that has not happened by the last candidate may fall anywhere after it.
        inside = [d.sampling.top_k > 0 or not _filters(d.sampling) for d in self.draws]
        whole = self.scaled.shape[1] >= self.logits.shape[-1]
        return kept, kept[:, -1] & ~_column(kept, inside, torch.bool)[:, 0] & (not whole)

    def _normalizer(self) -> Tensor:
        """[draws, 1] log of what the weights sum to before top-p: over the whole vocabulary where
        top-p needs it, else over the candidates in reach."""
        sums = torch.where(self.in_reach, self.scaled, -torch.inf).logsumexp(dim=-1, keepdim=True)
        for i, d in enumerate(self.draws):
            if d.sampling.top_p < 1 and d.sampling.top_k == 0 and d.sampling.temperature > 0:
                sums[i] = log_normalizer(self.logits[d.row][None], self.found.values[i, :1], d.sampling.temperature)
        return sums

    def _tail_bound(self) -> Tensor:
        """[draws] an upper bound of the log-weight of everything outside the candidates; -inf where none is kept.

        No token out there has a larger logit v than the last candidate. So their sum is at most their
        number times exp(v / T); and for T <= 1, at most exp(v / T - v) times their sum at T = 1.
        """
        vocabulary = self.logits.shape[-1]
        closed = [vocabulary <= CANDIDATES or bool(d.sampling.top_k) or _filters(d.sampling) for d in self.draws]
        values, inverse = self.found.values[:, :CANDIDATES], 1 / self.temperature[:, 0]
        last = values[:, -1]
        by_number = last * inverse + torch.tensor(float(max(1, vocabulary - CANDIDATES))).log()
        left = 1 - torch.exp(values.logsumexp(dim=-1) - self.total)
        by_sum = self.total + torch.log(left.clamp(min=0) + _SLACK) + (inverse - 1) * last
        bound = torch.where(inverse >= 1, torch.minimum(by_number, by_sum), by_number)
        return torch.where(_column(bound, closed, torch.bool)[:, 0], -torch.inf, bound).double()

    def _tail_weights(self, some: Tensor) -> Tensor:
        """[some, vocabulary] log-weights of the tokens outside the candidates, float64."""
        chosen = [self.draws[i] for i in some.tolist()]
        weights = self.logits[torch.tensor([d.row for d in chosen], device=some.device)].double()
        weights /= _column(weights, [d.sampling.temperature for d in chosen])
        return weights.scatter_(1, self.found.ids[some, :CANDIDATES], -torch.inf)

    def _tail_choices(self, weights: Tensor, some: Tensor) -> Tensor:
        """[some] draws from log-weights [some, vocabulary], by inverse distribution function."""
        cumulative = torch.softmax(weights, dim=-1).cumsum(dim=-1)
        keys, positions = self.keys[some], self.positions[some]
        point = uniform(keys, positions, torch.full_like(keys, TAIL_CHOICE)) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=weights.shape[-1] - 1)


def _filters(sampling: Sampling) -> bool:
    return sampling.top_p < 1 or sampling.min_p > 0


def _reach(sampling: Sampling, vocabulary: int) -> int:
    """How many of the largest logits one row looks at one by one: its own business, whatever the other rows need."""
    if sampling.top_k:
        return sampling.top_k
    return vocabulary if _filters(sampling) else CANDIDATES


def _full_choice(logits: Tensor, draw_: Draw) -> Tensor:
    """A draw from one row whose filters keep more than the candidates: the whole vocabulary, sorted."""
    found = largest(logits[None], logits.shape[-1])
    return _Choice(logits[None], found, found.values.logsumexp(dim=-1), [replace(draw_, row=0)]).tokens()[0]


def _column(like: Tensor, values: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=dtype or like.dtype)[:, None]
