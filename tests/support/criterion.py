"""Criterion for two runs of the same keys in float32: equal tokens, except where rounding decides.

A token may differ only where a margin of the reference is within ten times the largest difference measured between the
two runs' log-probabilities. The margins are the distance of the best two scores, noise included, and the distance of a
filter's cut.
"""

from dataclasses import dataclass

import torch

from branchwise.backends.engine.sampling.noise import gumbel, signed
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

_TOLERANCE = 10  # times the largest difference of a log-probability


@dataclass
class Comparison:
    """Counts over all compared runs."""

    tokens: int = 0
    close: int = 0  # tokens that differ within the criterion
    logit_gap: float = 0.0  # largest difference of a log-probability, nats

    def __str__(self) -> str:
        return f"{self.tokens} tokens, {self.close} decided by rounding, logits within {self.logit_gap:.1e} nats"


def compare(reference: Path, other: Path, key: int, sampling: Sampling, seen: Comparison) -> int | None:
    """Compare two paths with one parent and top log-probabilities. Return the index of the first differing token."""
    assert reference.top_logprobs is not None
    assert other.top_logprobs is not None
    start = len(reference.all_token_ids()) - len(reference.token_ids)
    for at in range(min(len(reference.token_ids), len(other.token_ids))):
        expected, found = dict(reference.top_logprobs[at]), dict(other.top_logprobs[at])
        gaps = [abs(expected[token] - found[token]) for token in expected.keys() & found.keys()]
        seen.logit_gap = max(seen.logit_gap, *gaps)
        seen.tokens += 1
        if reference.token_ids[at] != other.token_ids[at]:
            margin = _margin(expected, key, start + at, sampling)
            assert margin <= _TOLERANCE * seen.logit_gap, f"token {at} of key {key}: {margin} nats apart"
            seen.close += 1
            return at
    assert len(reference.token_ids) == len(other.token_ids)
    return None


def _margin(logprobs: dict[int, float], key: int, position: int, sampling: Sampling) -> float:
    """Return the distance to the nearest other outcome in nats: to another token's score or to a filter's cut."""
    ids = torch.tensor(list(logprobs))
    scaled = torch.tensor(list(logprobs.values())).double() / (sampling.temperature or 1.0)
    scaled, order = scaled.sort(descending=True)
    ids, margins = ids[order], []
    kept = len(ids)
    if sampling.top_k:
        margins.append(float(scaled[sampling.top_k - 1] - scaled[sampling.top_k]))
        kept = sampling.top_k
    if sampling.top_p < 1:
        before = (scaled.exp() / scaled.exp().sum()).cumsum(0) - scaled.exp() / scaled.exp().sum()
        margins.append(float((before - sampling.top_p).abs().min()))
        kept = int((before < sampling.top_p).sum())
    noise = gumbel(torch.tensor([signed(key)]), torch.tensor([position]), ids) if sampling.temperature else 0.0
    scores = (scaled + noise)[:kept].sort(descending=True).values
    if len(scores) > 1:
        margins.append(float(scores[0] - scores[1]))
    return min(margins)
