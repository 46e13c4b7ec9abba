"""Trace confidence of DeepConf (Fu et al. 2025, arXiv 2508.15260), from the top log-probabilities of each token.

A token's confidence is minus the mean log-probability of the most probable tokens at its position. It is high when
one token has nearly all the probability. A group is a window of consecutive tokens.
"""

from collections.abc import Sequence

from branchwise.core.path import Path, TopLogprob

ALTERNATIVES = 20
"""Number of top log-probabilities a token's confidence is computed from."""


def token_confidence(alternatives: Sequence[TopLogprob]) -> float:
    """Return the confidence of one token, in nats."""
    return -sum(other.logprob for other in alternatives) / len(alternatives)


def token_confidences(path: Path) -> list[float] | None:
    """Return the confidence of every sampled token, [sampled tokens] in nats.

    None if nothing was sampled or a segment has no top log-probabilities.
    """
    found: list[float] = []
    for segment in path.segments():
        if segment.forced:
            continue
        if segment.top_logprobs is None:
            return None
        found.extend(token_confidence(row) for row in segment.top_logprobs)
    return found or None


def group_confidences(tokens: Sequence[float], size: int) -> list[float]:
    """Return the mean of every window of `size` tokens, or of all tokens if there are fewer.

    Every window is summed from scratch. With running sums, rounding would depend on earlier tokens, and a path could
    fall below the threshold set by an identical path.
    """
    size = min(size, len(tokens))
    return [sum(tokens[end - size : end]) / size for end in range(size, len(tokens) + 1)]


def lowest_group(tokens: Sequence[float], size: int) -> float:
    """Return the confidence of the least confident group."""
    return min(group_confidences(tokens, size))


def last_group(tokens: Sequence[float], size: int) -> float:
    """Return the confidence of the last group."""
    return group_confidences(tokens, size)[-1]


def bottom_groups(tokens: Sequence[float], size: int) -> float:
    """Return the mean confidence of the least confident tenth of the groups."""
    groups = sorted(group_confidences(tokens, size))
    kept = groups[: max(1, len(groups) // 10)]
    return sum(kept) / len(kept)
