"""Log-probabilities of given continuations, all in one packed pass that shares the path."""

from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.base import Scores
from branchwise.backends.engine.branch import Input
from branchwise.backends.engine.hooks import Plan, Span
from branchwise.backends.engine.model import EngineModel
from branchwise.backends.engine.store import Store
from branchwise.usage import Usage


def score(
    model: EngineModel, store: Store, given: Input, continuations: Sequence[tuple[int, ...]], first: Tensor
) -> Scores:
    """Score `continuations` (token ids) after `given`, which is held whole; `first` [1, vocabulary] are the
    logits there.

    The last token of a continuation needs no pass of its own. Raises PoolFullError.
    """
    length = len(given.tokens)
    rows = [list(tokens[:-1]) for tokens in continuations]
    total = sum(map(len, rows))
    logits: list[Tensor] = []
    passes = given.passes
    if total:
        slots = store.allocate(total)
        try:
            logits = [_pass(model, store, given, rows, slots)]
        finally:
            store.free(slots)
        passes += 1.0
    every = torch.cat([first, *logits])
    logprobs, at = [], 1
    for tokens, row in zip(continuations, rows, strict=True):
        index = [0, *range(at, at + len(row))]
        at += len(row)
        chosen = torch.log_softmax(every[index].float(), dim=-1)
        picked = chosen.gather(1, torch.tensor(tokens, device=chosen.device)[:, None])[:, 0]
        logprobs.append(tuple(picked.tolist()))
    cost = Usage(
        prompt=length,
        reused=given.held,
        prefilled=length - given.held,
        scored=sum(map(len, continuations)),
        forward_passes=passes,
    )
    return Scores(tuple(logprobs), cost)


def _pass(model: EngineModel, store: Store, given: Input, rows: Sequence[Sequence[int]], slots: list[int]) -> Tensor:
    """Logits [sum of rows, vocabulary] after each token of each continuation."""
    device, length = store.device, len(given.tokens)
    written = torch.tensor(slots, dtype=torch.int64, device=device)
    before = torch.tensor(store.slots_of(given.node), dtype=torch.int64, device=device)
    tokens: list[int] = []
    positions: list[int] = []
    spans = []
    for row in filter(None, rows):
        start, end = len(tokens), len(tokens) + len(row)
        spans.append(Span(start, end, torch.cat([before, written[start:end]])))
        tokens.extend(row)
        positions.extend(range(length, length + len(row)))
    none = torch.zeros(0, dtype=torch.int64, device=device)
    plan = Plan(store, written, 0, none.view(0, 0), none, spans)
    return model.step(tokens, positions, plan, list(range(len(tokens))))
