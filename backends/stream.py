"""A request under way: the branches that grow from one path."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from branchwise.core.errors import BranchwiseError
from branchwise.core.path import StopReason, TopLogprob
from branchwise.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Tokens:
    """New tokens of one branch. `text` is only what can no longer be trimmed by a stop string;
    `ends` are lengths of the branch's whole text, beyond it where text is held back.

    A backend that shows no tokens (`token_out=False`) leaves `token_ids` and `ends` empty.
    """

    copy: int
    token_ids: tuple[int, ...]
    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] | None

    @property
    def count(self) -> int:
        """How many tokens these are; a piece of text without tokens or log-probabilities counts as one."""
        return len(self.token_ids) or len(self.logprobs or ()) or 1


@dataclass(frozen=True, slots=True)
class Ended:
    """A branch ended; `cost` is its own share (input, sampled and drafted tokens, passes).

    `trimmed` is what the branch's tokens spell after all the text that was handed out: a stop string
    and whatever its last token says beyond it. It is empty unless `stop_reason` is STOP.
    """

    copy: int
    stop_reason: StopReason
    cost: Usage
    trimmed: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A branch failed, maybe before its first token. Tokens whose text was held back are lost with it."""

    copy: int
    error: BranchwiseError
    cost: Usage


BranchEvent = Tokens | Ended | Broken


class Extension:
    """The branches of one request: iterate for their events, cancel them one by one.

    Iterate over all branches at once, or `split` it and iterate over each. An iteration ends when its
    branches have ended. Events are delivered in the event loop in which the request was made.
    """

    def __init__(self, copies: int, cancel: Callable[[int], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._open = copies
        self._cancel = cancel
        together: asyncio.Queue[BranchEvent] = asyncio.Queue()
        self._queues = [together] * copies

    def deliver(self, event: BranchEvent) -> None:
        """Hand over an event; for backends, in the request's own event loop."""
        self._queues[event.copy].put_nowait(event)

    def cancel(self, copy: int) -> None:
        """Stop one branch; its Ended event (with CANCELLED, unless it ended before) still comes."""
        self._cancel(copy)

    def split(self) -> list["BranchStream"]:
        """Each branch's events by themselves. Call it once, before iterating."""
        together, self._queues = self._queues[0], [asyncio.Queue() for _ in self._queues]
        while not together.empty():
            self.deliver(together.get_nowait())
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
    """One branch of a request: its tokens, then its end."""

    def __init__(self, extension: Extension, copy: int, queue: asyncio.Queue[BranchEvent]) -> None:
        self._extension = extension
        self._copy = copy
        self._queue = queue

    def cancel(self) -> None:
        """Stop the branch; its end still comes."""
        self._extension.cancel(self._copy)

    async def next(self) -> BranchEvent:
        """The next event; the last is Ended or Broken."""
        return await self._queue.get()
