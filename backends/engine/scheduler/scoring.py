"""Log-probabilities of given continuations, in one packed pass that shares their prefix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.base import Scores
from branchwise.backends.engine.cache.kv_pool import KVPool, slot_index
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.plan import Plan, Span, prefix_slots
from branchwise.backends.engine.sampling.candidates import log_normalizer, precise
from branchwise.backends.engine.scheduler.batch import PoolFullError
from branchwise.backends.engine.scheduler.requests import ScoreRequest
from branchwise.core.usage import Usage


def score(model: EngineModel, tree: RadixTree, pool: KVPool, request: ScoreRequest, first: Tensor) -> Scores:
    """Score the continuations of a request whose tokens are cached; `first` [1, vocabulary] are the logits after them.

    The last token of a continuation is never computed. Raises PoolFullError.
    """
    computed = [tokens[:-1] for tokens in request.continuations]
    count, cost = sum(map(len, computed)), request.cost()
    logits = first
    if count:
        slots = tree.allocate(count)
        if slots is None:
            raise PoolFullError
        try:
            logits = torch.cat([first, _forward(model, pool, request, computed, slots)])
        finally:
            tree.free(slots)
        cost += Usage(forward_passes=1.0)
    logprobs, start = [], 1
    for tokens, row_tokens in zip(request.continuations, computed, strict=True):
        rows = logits[[0, *range(start, start + len(row_tokens))]]
        start += len(row_tokens)
        chosen = precise(rows.gather(1, torch.tensor(tokens, device=rows.device)[:, None]))[:, 0]
        logprobs.append(tuple((chosen - log_normalizer(rows, precise(rows.amax(dim=-1)))).tolist()))
    return Scores(tuple(logprobs), cost)


def _forward(
    model: EngineModel, pool: KVPool, request: ScoreRequest, continuations: Sequence[Sequence[int]], slots: list[int]
) -> Tensor:
    """Return logits [tokens of all continuations, vocabulary] after each token."""
    assert request.cursor is not None
    prefix = slot_index(prefix_slots(request.cursor.prefix_nodes()), pool.device)
    tokens: list[int] = []
    positions: list[int] = []
    spans = []
    for continuation in filter(None, continuations):
        start, end = len(tokens), len(tokens) + len(continuation)
        spans.append(Span(start, end, prefix, slot_index(slots[start:end], pool.device)))
        tokens.extend(continuation)
        positions.extend(range(request.depth, request.depth + len(continuation)))
    plan = Plan(pool, slot_index(slots, pool.device), spans=spans)
    return model.step(tokens, positions, plan, range(len(tokens)), [request.state] * len(spans)).logits
