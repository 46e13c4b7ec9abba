"""How sure a model was along a path, from the alternatives it saw at each token.

DeepConf (Fu et al. 2025, arXiv 2508.15260): a token's confidence is minus the mean log-probability of the most
probable alternatives there: the further the others are behind, the higher. A group is a window of tokens.
"""

from collections.abc import Sequence

from branchwise.core.path import Path, TopLogprob

ALTERNATIVES = 20
"""Alternatives a token's confidence is measured on."""


def token_confidence(alternatives: Sequence[TopLogprob]) -> float:
    """Of one token, in nats."""
    return -sum(other.logprob for other in alternatives) / len(alternatives)


def token_confidences(path: Path) -> list[float] | None:
    """[sampled tokens] in nats; None where a segment has no alternatives, or nothing was sampled."""
    found: list[float] = []
    for segment in path.segments():
        if segment.forced:
            continue
        if segment.top_logprobs is None:
            return None
        found.extend(token_confidence(row) for row in segment.top_logprobs)
    return found or None


def group_confidences(tokens: Sequence[float], size: int) -> list[float]:
    """Means of every window of `size` tokens; of all of them, where they are fewer.

    Each is summed by itself: differences of running sums would be off by what came before, and a path would fall below
    the bar that its twin has set.
    """
    size = min(size, len(tokens))
    return [sum(tokens[end - size : end]) / size for end in range(size, len(tokens) + 1)]


def lowest_group(tokens: Sequence[float], size: int) -> float:
    """The least sure window."""
    return min(group_confidences(tokens, size))


def tail(tokens: Sequence[float], size: int) -> float:
    """The last window."""
    return group_confidences(tokens, size)[-1]


def bottom_groups(tokens: Sequence[float], size: int) -> float:
    """Mean of the least sure tenth of the windows."""
    groups = sorted(group_confidences(tokens, size))
    kept = groups[: max(1, len(groups) // 10)]
    return sum(kept) / len(kept)
