"""Log-probabilities of given continuations, all in one packed pass that shares the path."""

from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.base import Scores
from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.plan import Plan, Span, index_of, slots_before
from branchwise.backends.engine.sampling.candidates import log_normalizer, precise
from branchwise.backends.engine.scheduler.batch import PoolFullError
from branchwise.backends.engine.scheduler.jobs import ScoreJob
from branchwise.core.usage import Usage


def score(model: EngineModel, tree: TokenTree, pool: Pool, job: ScoreJob, first: Tensor) -> Scores:
    """Score the job's continuations after its tokens, which are held; `first` [1, vocabulary] are the logits there.

    The last token of a continuation needs no pass of its own. Raises PoolFullError.
    """
    rows = [tokens[:-1] for tokens in job.continuations]
    total, cost = sum(map(len, rows)), job.cost()
    every = first
    if total:
        slots = tree.allocate(total)
        if slots is None:
            raise PoolFullError
        try:
            every = torch.cat([first, _pass(model, pool, job, rows, slots)])
        finally:
            tree.free(slots)
        cost += Usage(forward_passes=1.0)
    logprobs, at = [], 1
    for tokens, row in zip(job.continuations, rows, strict=True):
        logits = every[[0, *range(at, at + len(row))]]
        at += len(row)
        chosen = precise(logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None]))[:, 0]
        logprobs.append(tuple((chosen - log_normalizer(logits, precise(logits.amax(dim=-1)))).tolist()))
    return Scores(tuple(logprobs), cost)


def _pass(model: EngineModel, pool: Pool, job: ScoreJob, rows: Sequence[Sequence[int]], slots: list[int]) -> Tensor:
    """Logits [sum of rows, vocabulary] after each token of each continuation."""
    assert job.cursor is not None
    before = index_of(slots_before(job.cursor.chain()), pool.device)
    tokens: list[int] = []
    positions: list[int] = []
    spans = []
    for row in filter(None, rows):
        start, end = len(tokens), len(tokens) + len(row)
        spans.append(Span(start, end, before, index_of(slots[start:end], pool.device)))
        tokens.extend(row)
        positions.extend(range(job.depth, job.depth + len(row)))
    plan = Plan(pool, index_of(slots, pool.device), spans=spans)
    return model.step(tokens, positions, plan, range(len(tokens)), [job.state] * len(spans)).logits
