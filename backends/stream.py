"""A running request: the events of its branches. Backends deliver them, the driver iterates over them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from branchwise.core.errors import BranchwiseError
from branchwise.core.path import StopReason, TopLogprob
from branchwise.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Tokens:
    """New tokens of one branch.

    Without `token_out`, a backend leaves `token_ids` and `ends` empty.
    """

    copy: int
    """Index of the branch in its request."""
    token_ids: tuple[int, ...]
    text: str
    """New text that no stop string can trim any more. Later text is held back."""
    ends: tuple[int, ...]
    """[tokens] length of the branch's whole text after each token, including text that is held back."""
    logprobs: tuple[float, ...] | None
    """[tokens] nats."""
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] | None
    """[tokens, alternatives]."""

    @property
    def count(self) -> int:
        """Number of tokens; text without tokens and log-probabilities counts as one."""
        return len(self.token_ids) or len(self.logprobs or ()) or 1


@dataclass(frozen=True, slots=True)
class Ended:
    """End of a branch."""

    copy: int
    """Index of the branch in its request."""
    stop_reason: StopReason
    cost: Usage
    """The branch's own share: input, sampled and drafted tokens, and passes."""
    trimmed: str = ""
    """Text of the branch's tokens after the delivered text: a stop string and the rest of its last token.

    Empty unless `stop_reason` is STOP.
    """


@dataclass(frozen=True, slots=True)
class Broken:
    """Failure of a branch, possibly before its first token. Tokens whose text was held back are lost."""

    copy: int
    """Index of the branch in its request."""
    error: BranchwiseError
    cost: Usage


BranchEvent = Tokens | Ended | Broken


class Extension:
    """The branches of one request: iterate over their events, or cancel branches one by one.

    Iterate over all branches at once, or `split` it and read each. An iteration ends when its branches have ended.
    Events are delivered in the event loop in which the request was made.
    """

    def __init__(self, copies: int, cancel: Callable[[int], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._open = copies
        self._cancel = cancel
        shared: asyncio.Queue[BranchEvent] = asyncio.Queue()
        self._queues = [shared] * copies

    def deliver(self, event: BranchEvent) -> None:
        """Deliver an event. Backends call it in the request's own event loop."""
        self._queues[event.copy].put_nowait(event)

    def cancel(self, copy: int) -> None:
        """Cancel one branch. Its Ended event follows, with CANCELLED unless it ended before."""
        self._cancel(copy)

    def split(self) -> list["BranchStream"]:
        """Return one stream for each branch. Call it once, before iterating."""
        shared, self._queues = self._queues[0], [asyncio.Queue() for _ in self._queues]
        while not shared.empty():
            self.deliver(shared.get_nowait())
        return [BranchStream(self, copy, queue) for copy, queue in enumerate(self._queues)]

    def __aiter__(self) -> AsyncIterator[BranchEvent]:
        return self

    async def __anext__(self) -> BranchEvent:
        if self._open == 0:
            raise StopAsyncIteration
        event = await self._queues[0].get()
        if isinstance(event, Ended | Broken):
            self._open -= 1
        return event


class BranchStream:
    """The events of one branch: its tokens, then its end."""

    def __init__(self, extension: Extension, copy: int, queue: asyncio.Queue[BranchEvent]) -> None:
        self._extension = extension
        self._copy = copy
        self._queue = queue

    def cancel(self) -> None:
        """Cancel the branch. Its end still follows."""
        self._extension.cancel(self._copy)

    async def next(self) -> BranchEvent:
        """Return the next event. The last one is Ended or Broken."""
        return await self._queue.get()
