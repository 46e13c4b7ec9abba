"""The token limit of a path that is sampled in several requests. Steps and rollouts use it."""

from dataclasses import replace

from branchwise.core.path import Path
from branchwise.core.sampling import Sampling


def remaining_sampling(sampling: Sampling, path: Path) -> Sampling:
    """Return `sampling` for a continuation of `path`, with `max_tokens` reduced from the whole path's limit."""
    limit = sampling.max_tokens
    return sampling if limit is None else replace(sampling, max_tokens=max(1, limit - path.generated))
