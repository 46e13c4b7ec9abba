"""A request under way: the branches that grow from one path."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from branchwise.errors import BackendError
from branchwise.path import StopReason, TopLogprob
from branchwise.usage import Usage


@dataclass(frozen=True, slots=True)
class Tokens:
    """New tokens of one branch. `text` is only what can no longer be trimmed by a stop string;
    `ends` are lengths of the branch's whole text, beyond it where text is held back."""

    copy: int
    token_ids: tuple[int, ...]
    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A branch ended; `cost` is its own share (input, sampled and drafted tokens, passes)."""

    copy: int
    stop_reason: StopReason
    cost: Usage


@dataclass(frozen=True, slots=True)
class Broken:
    """A branch failed after it was started."""

    copy: int
    error: BackendError
    cost: Usage


BranchEvent = Tokens | Ended | Broken


class Extension:
    """The branches of one request: iterate for their events, cancel them one by one.

    The iteration ends when every branch has ended. Events are delivered in the event loop in which
    the request was made.
    """

    def __init__(self, copies: int, cancel: Callable[[int], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._open = copies
        self._cancel = cancel
        self._events: asyncio.Queue[BranchEvent] = asyncio.Queue()

    def deliver(self, event: BranchEvent) -> None:
        """Hand over an event; for backends, in the request's own event loop."""
        self._events.put_nowait(event)

    def cancel(self, copy: int) -> None:
        """Stop one branch; its Ended event (with CANCELLED, unless it ended before) still comes."""
        self._cancel(copy)

    def __aiter__(self) -> AsyncIterator[BranchEvent]:
        return self

    async def __anext__(self) -> BranchEvent:
        if self._open == 0:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Ended | Broken):
            self._open -= 1
        return event
