"""Sampler: one token for each request of a batch, with the request's own settings and keyed noise.

A token is argmax of log p + Gumbel noise (the Gumbel-max trick), p the distribution after temperature, top-k, top-p and
min-p, in that order. Only the most probable `CANDIDATES` tokens get noise of their own. The others share one bucket;
if it wins, one keyed uniform selects among them. That is exact, and costs a fraction of noise over a vocabulary of
150,000. The bucket's weight is computed only where its upper bound could win.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from branchwise.backends.engine.sampling.candidates import Candidates, largest, log_normalizer, precise
from branchwise.backends.engine.sampling.distribution import filter_mask
from branchwise.backends.engine.sampling.noise import TAIL_BUCKET, TAIL_TOKEN, gumbel, signed, uniform
from branchwise.core.path import TopLogprob
from branchwise.core.sampling import Sampling

CANDIDATES = 128

_TAIL_BLOCK = 16  # requests whose tails are computed together: 20 MB with 150,000 tokens
_COPY_BELOW = 0.8  # part of the rows that are used, below which copying them is faster than processing all rows
_SLACK = 1e-5  # covers the rounding of a float32 normalizer in the bound of the bucket's weight


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One token to sample."""

    sampling: Sampling
    key: int
    position: int  # from the start of the path
    row: int  # of the logits


class Samples(NamedTuple):
    """Sampled tokens; log-probabilities are those of the model, before temperature and filters."""

    tokens: Tensor  # [requests]
    logprobs: Tensor  # [requests] nats
    top_tokens: Tensor  # [requests, n] the most probable tokens
    top_logprobs: Tensor  # [requests, n] nats

    def alternatives(self) -> list[tuple[TopLogprob, ...]]:
        """Return the most probable tokens of each request."""
        tokens, logprobs = self.top_tokens.tolist(), self.top_logprobs.tolist()
        return [tuple(map(TopLogprob, *row)) for row in zip(tokens, logprobs, strict=True)]


def sample(logits: Tensor, requests: Sequence[SampleRequest]) -> Samples:
    """Sample from `logits` [rows, vocabulary]. Requests may share a row; unused rows cost little.

    A request's tokens do not depend on the others. So requests of different widths are sampled apart: which of several
    equal logits are candidates depends on the width.
    """
    by_width: dict[int, list[int]] = {}
    for index, request in enumerate(requests):
        by_width.setdefault(_width(request.sampling, logits.shape[-1]), []).append(index)
    parts = [_sample(logits, [requests[i] for i in indices], width) for width, indices in by_width.items()]
    return parts[0] if len(parts) == 1 else _merged(parts, list(by_width.values()))


def _width(sampling: Sampling, vocabulary: int) -> int:
    """Return the number of candidates that a request needs."""
    return min(max(CANDIDATES, sampling.top_k, sampling.logprobs), vocabulary)


def _merged(parts: Sequence[Samples], places: Sequence[Sequence[int]]) -> Samples:
    """Return the samples of all parts, each at its places, with as many alternatives as the part with most."""
    order = torch.tensor([place for of_part in places for place in of_part]).argsort()
    shown = max(part.top_tokens.shape[1] for part in parts)
    padded = [
        part._replace(
            top_tokens=pad(part.top_tokens, (0, shown - part.top_tokens.shape[1])),
            top_logprobs=pad(part.top_logprobs, (0, shown - part.top_logprobs.shape[1]), value=-torch.inf),
        )
        for part in parts
    ]
    return Samples(*(torch.cat(fields)[order.to(fields[0].device)] for fields in zip(*padded, strict=True)))


def _sample(logits: Tensor, requests: Sequence[SampleRequest], width: int) -> Samples:
    used = sorted({request.row for request in requests})
    if len(used) < _COPY_BELOW * len(logits):
        logits = logits[torch.tensor(used, device=logits.device)]
        new_row = {row: i for i, row in enumerate(used)}
        requests = [replace(request, row=new_row[request.row]) for request in requests]
    rows = torch.tensor([request.row for request in requests], device=logits.device)
    values, ids = largest(logits, width)
    candidates, total = Candidates(values[rows], ids[rows]), log_normalizer(logits, values[:, 0])[rows]
    greedy = _column(candidates.values, [request.sampling.temperature == 0 for request in requests], torch.bool)[:, 0]
    tokens = candidates.ids[:, 0]
    if not bool(greedy.all()):
        tokens = torch.where(greedy, tokens, _KeyedSampler(logits, candidates, total, requests).tokens())
    logprobs = precise(logits[rows, tokens]) - total
    shown = max(request.sampling.logprobs for request in requests)
    return Samples(tokens, logprobs, candidates.ids[:, :shown], candidates.values[:, :shown] - total[:, None])


class _KeyedSampler:
    """Samples at temperatures above 0; the tokens of greedy requests are meaningless."""

    def __init__(
        self, logits: Tensor, candidates: Candidates, total: Tensor, requests: Sequence[SampleRequest]
    ) -> None:
        """`total` [requests] is the log-normalizer at temperature 1."""
        values = candidates.values
        self.logits = logits
        self.candidates = candidates
        self.total = total
        self.requests = requests
        self.temperature = _column(values, [request.sampling.temperature or 1.0 for request in requests])
        self.keys = _column(values, [signed(request.key) for request in requests], torch.int64)
        self.positions = _column(values, [request.position for request in requests], torch.int64)
        self.scaled = values / self.temperature
        counts = [_candidate_count(request.sampling, logits.shape[-1]) for request in requests]
        count = _column(values, counts, torch.int64)
        self.in_count = torch.arange(values.shape[1], device=values.device) < count

    def tokens(self) -> Tensor:
        """Return the sampled tokens [requests]."""
        kept, incomplete = self._filtered()
        ids = self.candidates.ids
        noisy = torch.where(kept, self.scaled.double() + gumbel(self.keys, self.positions, ids), -torch.inf)
        best, index = noisy.max(dim=-1)
        tokens = ids.gather(1, index[:, None])[:, 0]
        for i in torch.nonzero(incomplete).flatten().tolist():
            tokens[i] = _sample_sorted(self.logits[self.requests[i].row], self.requests[i])
        bucket = gumbel(self.keys, self.positions, torch.full_like(self.keys, TAIL_BUCKET))[:, 0]
        possible = torch.nonzero(bucket + self._tail_bound() > best).flatten()
        for some in possible.split(_TAIL_BLOCK) if len(possible) else ():
            weights = self._tail_weights(some)
            wins = bucket[some] + weights.logsumexp(dim=-1) > best[some]
            tokens[some[wins]] = self._tail_tokens(weights[wins], some[wins])
        return tokens

    def _filtered(self) -> tuple[Tensor, Tensor]:
        """Return the kept candidates [requests, width], and the requests that may keep further tokens [requests]."""
        top_p = _column(self.scaled, [request.sampling.top_p for request in self.requests])
        min_p = _column(self.scaled, [request.sampling.min_p for request in self.requests])
        kept = filter_mask(torch.exp(self.scaled - self._normalizer()), self.in_count, top_p, min_p)
        # A top-p or min-p cut that is not before the last candidate may be anywhere after it.
        inside = [request.sampling.top_k > 0 or not _has_cut(request.sampling) for request in self.requests]
        whole = self.scaled.shape[1] >= self.logits.shape[-1]
        return kept, kept[:, -1] & ~_column(kept, inside, torch.bool)[:, 0] & (not whole)

    def _normalizer(self) -> Tensor:
        """Return [requests, 1] log of the sum of the weights before top-p.

        The sum is over the whole vocabulary where top-p needs it, else over the first candidates.
        """
        sums = torch.where(self.in_count, self.scaled, -torch.inf).logsumexp(dim=-1, keepdim=True)
        for i, request in enumerate(self.requests):
            sampling = request.sampling
            if sampling.top_p < 1 and sampling.top_k == 0 and sampling.temperature > 0:
                row, most = self.logits[request.row][None], self.candidates.values[i, :1]
                sums[i] = log_normalizer(row, most, sampling.temperature)
        return sums

    def _tail_bound(self) -> Tensor:
        """Return [requests] an upper bound of the log-weight of all tokens outside the candidates, -inf if all are cut.

        No such token has a larger logit v than the last candidate. So their sum is at most their number times
        exp(v / T); and for T <= 1, at most exp(v / T - v) times their sum at T = 1.
        """
        vocabulary = self.logits.shape[-1]
        cut = [
            vocabulary <= CANDIDATES or bool(request.sampling.top_k) or _has_cut(request.sampling)
            for request in self.requests
        ]
        values, inverse = self.candidates.values[:, :CANDIDATES], 1 / self.temperature[:, 0]
        last = values[:, -1]
        by_number = last * inverse + torch.tensor(float(max(1, vocabulary - CANDIDATES))).log()
        left = 1 - torch.exp(values.logsumexp(dim=-1) - self.total)
        by_sum = self.total + torch.log(left.clamp(min=0) + _SLACK) + (inverse - 1) * last
        bound = torch.where(inverse >= 1, torch.minimum(by_number, by_sum), by_number)
        return torch.where(_column(bound, cut, torch.bool)[:, 0], -torch.inf, bound).double()

    def _tail_weights(self, some: Tensor) -> Tensor:
        """Return [some, vocabulary] log-weights of the tokens outside the candidates, float64."""
        requests = [self.requests[i] for i in some.tolist()]
        weights = self.logits[torch.tensor([request.row for request in requests], device=some.device)].double()
        weights /= _column(weights, [request.sampling.temperature for request in requests])
        return weights.scatter_(1, self.candidates.ids[some, :CANDIDATES], -torch.inf)

    def _tail_tokens(self, weights: Tensor, some: Tensor) -> Tensor:
        """Return [some] samples of log-weights [some, vocabulary], by inverse distribution function."""
        cumulative = torch.softmax(weights, dim=-1).cumsum(dim=-1)
        keys, positions = self.keys[some], self.positions[some]
        point = uniform(keys, positions, torch.full_like(keys, TAIL_TOKEN)) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=weights.shape[-1] - 1)


def _has_cut(sampling: Sampling) -> bool:
    """Return whether top-p or min-p is in use."""
    return sampling.top_p < 1 or sampling.min_p > 0


def _candidate_count(sampling: Sampling, vocabulary: int) -> int:
    """Return how many of the largest logits get noise of their own; independent of the other requests."""
    if sampling.top_k:
        return min(sampling.top_k, vocabulary)
    return vocabulary if _has_cut(sampling) else CANDIDATES


def _sample_sorted(logits: Tensor, request: SampleRequest) -> Tensor:
    """Return a sample of one row [vocabulary] whose filters keep more than the candidates, over all tokens sorted."""
    candidates = largest(logits[None], logits.shape[-1])
    total = candidates.values.logsumexp(dim=-1)
    return _KeyedSampler(logits[None], candidates, total, [replace(request, row=0)]).tokens()[0]


def _column(like: Tensor, values: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
    """Return the values as a column [values, 1] on the device, and of the type, of `like`."""
    return torch.tensor(values, device=like.device, dtype=dtype or like.dtype)[:, None]
