"""Replay of a recorded branch as a stream of events."""

import asyncio
from collections.abc import Iterator, Sequence

from branchwise.backends.recorded.record import RecordedBranch
from branchwise.backends.stream import Ended, Extension, Tokens
from branchwise.core.path import StopReason, TopLogprob
from branchwise.core.usage import Usage

_EVENT_TOKENS = 8
"""Tokens in one event."""
_LOOP_ITERATIONS = 8
"""Iterations of the event loop between events, in which a strategy may react and cancel the branch."""


def recorded_branch(events: Sequence[Tokens], end: Ended, alternatives: int) -> RecordedBranch:
    """Return a branch to record from its events."""
    logprobs = bool(events) and all(event.logprobs is not None for event in events)
    top_logprobs = bool(events) and all(event.top_logprobs is not None for event in events)
    rows = (row for event in events for row in event.top_logprobs or ())
    return RecordedBranch(
        token_ids=tuple(token for event in events for token in event.token_ids),
        text="".join(event.text for event in events),
        ends=tuple(text_end for event in events for text_end in event.ends),
        logprobs=tuple(value for event in events for value in event.logprobs or ()) if logprobs else None,
        top_logprobs=tuple(map(tuple, rows)) if top_logprobs else None,
        alternatives=alternatives,
        stop_reason=end.stop_reason,
        trimmed=end.trimmed,
        cost=end.cost,
    )


async def replay_branch(extension: Extension, copy: int, branch: RecordedBranch, cancelled: asyncio.Event) -> None:
    """Deliver the events of a recorded branch, up to its end or until it is cancelled."""
    delivered = 0
    for event in _events(copy, branch):
        extension.deliver(event)
        delivered += len(event.token_ids)
        for _ in range(_LOOP_ITERATIONS):
            await asyncio.sleep(0)
        if cancelled.is_set() and delivered < len(branch.token_ids):
            extension.deliver(Ended(copy, StopReason.CANCELLED, _partial_cost(branch, delivered)))
            return
    extension.deliver(Ended(copy, branch.stop_reason, branch.cost, branch.trimmed))


def _events(copy: int, branch: RecordedBranch) -> Iterator[Tokens]:
    """Yield the branch's tokens, a few in each event."""
    count, text_start = len(branch.token_ids), 0
    if not count and (branch.text or branch.logprobs):  # of a backend that returns no tokens
        yield Tokens(copy, (), branch.text, (), branch.logprobs, None)
    for start in range(0, count, _EVENT_TOKENS):
        part = slice(start, start + _EVENT_TOKENS)
        ends = branch.ends[part]
        is_last = start + _EVENT_TOKENS >= count
        text_end = len(branch.text) if is_last or not ends else min(ends[-1], len(branch.text))
        top = None if branch.top_logprobs is None else branch.top_logprobs[part]
        yield Tokens(
            copy=copy,
            token_ids=branch.token_ids[part],
            text=branch.text[text_start:text_end],
            ends=ends,
            logprobs=None if branch.logprobs is None else branch.logprobs[part],
            top_logprobs=None if top is None else tuple(tuple(TopLogprob(*other) for other in row) for row in top),
        )
        text_start = text_end


def _partial_cost(branch: RecordedBranch, tokens: int) -> Usage:
    """Return the usage of a branch that is cancelled after its first tokens."""
    passes = branch.cost.forward_passes * tokens / len(branch.token_ids)
    update = {"sampled": tokens, "discarded": tokens, "drafted": 0, "accepted": 0, "drafters": {}}
    return branch.cost.model_copy(update={**update, "forward_passes": passes})
