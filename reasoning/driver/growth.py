"""One branch growing to its end: its thoughts, its answer, and over failures that pass."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.stream import BranchStream, Broken, Ended, Extension, Tokens
from branchwise.core.errors import BranchwiseError
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.driver.attempts import PAUSES, as_error, may_pass, retry
from branchwise.driver.segment import Segment
from branchwise.driver.watch import Watch
from branchwise.prompts.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Grown:
    """How one branch ended. `path` is what it had by then; `error` is set where it failed."""

    path: Path
    cost: Usage
    error: BranchwiseError | None = None

    @property
    def finished(self) -> bool:
        return self.error is None and self.path.stop_reason is not StopReason.CANCELLED


@dataclass(frozen=True, slots=True)
class Brief:
    """What the branches of one Extend have in common. `sampling.max_tokens` is a whole branch's limit, and set."""

    backend: Backend
    path: Path
    sampling: Sampling
    thinking: Thinking
    priority: int = 0

    @property
    def limit(self) -> int:
        assert self.sampling.max_tokens is not None
        return self.sampling.max_tokens

    @property
    def thoughts(self) -> int | None:
        """Tokens a branch may think before its answer is asked for; None where no limit applies."""
        budget = self.thinking.budget
        if budget is None or self.thinking.close in self.path.whole_text:
            return None
        left = max(1, budget - self.path.generated)
        return left if left < self.limit else None

    def begin(self, path: Path, keys: Sequence[int], tokens: int) -> list[BranchStream]:
        """Branches of at most `tokens` from `path`; where they can't be started, they broke at once."""
        request = ExtendRequest(path, tuple(keys), replace(self.sampling, max_tokens=tokens), self.priority)
        try:
            extension = self.backend.extend(request)
        except Exception as error:
            extension = Extension(len(keys), lambda _: None)
            for copy in range(len(keys)):
                extension.deliver(Broken(copy, as_error("extend", error), Usage()))
        return extension.split()


def grow(brief: Brief, keys: Sequence[int]) -> list["Growth"]:
    """Start a branch for each key, all in one request."""
    streams = brief.begin(brief.path, keys, brief.thoughts or brief.limit)
    return [Growth(brief, key, stream) for key, stream in zip(keys, streams, strict=True)]


class Growth:
    """A branch that has been started. Run it once.

    A request that breaks for a reason that may pass is made again from the tokens received, as the same
    sample, after a pause. Tokens that must be drawn again count against the branch's limit.
    """

    def __init__(self, brief: Brief, key: int, stream: BranchStream) -> None:
        self.watch: Watch | None = None
        self._brief = brief
        self._stream = stream
        self._segment = Segment(brief.path, key)
        self._input = brief.path  # of the request under way
        self._paid = 0  # the segment's tokens that are in the cost
        self._cost = Usage()  # of the requests that ended
        self._redrawn = 0
        self._thoughts = brief.thoughts
        self._trimmed = ""
        self._pauses = iter(PAUSES)
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        """Stop the branch; `run` still returns."""
        self._cancelled.set()
        self._stream.cancel()

    async def run(self, on_tokens: Callable[[Tokens], None]) -> Grown:
        """Grow to the end. Raises nothing: a failure is in what it returns."""
        try:
            reason = await self._listen(on_tokens)
            if reason is StopReason.LENGTH and self._thoughts is not None:
                reason = await self._answer(on_tokens)
        except BranchwiseError as error:
            return Grown(self._segment.path(None), self._cost.lost(), error)
        if reason is StopReason.CANCELLED:
            return Grown(self._segment.path(reason), self._cost.lost())
        cost = self._cost.model_copy(update={"discarded": self._redrawn})
        return Grown(self._segment.path(reason, self._trimmed), cost)

    def abandoned(self) -> Grown:
        """The branch as it is, where its backend can't be waited for: charged for what was delivered."""
        delivered = self._segment.count - self._paid
        given = len(self._input.all_token_ids()) if delivered else 0
        cost = self._cost + Usage(prompt=given, prefilled=given, sampled=delivered)
        return Grown(self._segment.path(StopReason.CANCELLED), cost.lost())

    async def _listen(self, on_tokens: Callable[[Tokens], None]) -> StopReason:
        """Hear a request to its end, and those that take its place. Raises BranchwiseError."""
        while True:
            event = await self._stream.next()
            if isinstance(event, Tokens):
                self._segment.add(event)
                if self.watch is not None:
                    self.watch.add(event)
                on_tokens(event)
                continue
            self._cost += event.cost.model_copy(update={"discarded": 0})
            if isinstance(event, Ended):
                self._trimmed, self._paid = event.trimmed, self._segment.count
                return event.stop_reason
            if (reason := await self._recover(event)) is not None:
                return reason

    async def _recover(self, broken: Broken) -> StopReason | None:
        """Make a broken request again; a reason where the branch ends instead. Raises its error."""
        pause = next(self._pauses, None)
        if pause is None or not may_pass(broken.error):
            raise broken.error
        segment = self._segment
        dropped = segment.drop_unspelled()
        if self.watch is not None:
            self.watch.drop(dropped)
        if segment.token_ids or not segment.count:  # else there is no telling
            self._redrawn += max(0, broken.cost.sampled - (segment.count - self._paid))
        self._paid = segment.count
        try:
            async with asyncio.timeout(pause):
                await self._cancelled.wait()
        except TimeoutError:
            pass
        else:
            return StopReason.CANCELLED
        return self._go_on(segment.path(None) if segment.count else segment.parent)

    async def _answer(self, on_tokens: Callable[[Tokens], None]) -> StopReason:
        """Close the thoughts, unless they are closed, and let the branch go on as the same sample."""
        brief, path = self._brief, self._segment.path(None)
        self._thoughts = None
        if brief.thinking.close not in path.whole_text:
            path = await retry("force", lambda: brief.backend.force(path, brief.thinking.closing))
        if self._cancelled.is_set():
            return StopReason.CANCELLED
        self._segment, self._paid = Segment(path, self._segment.key), 0
        return self._go_on(path) or await self._listen(on_tokens)

    def _go_on(self, path: Path) -> StopReason | None:
        """Ask for the rest of the sample; LENGTH where nothing is left of its limit."""
        left = self._brief.limit - self._cost.sampled
        if self._thoughts is not None:
            left = min(left, self._thoughts - self._segment.count)
        if left <= 0:
            return StopReason.LENGTH
        self._input = path
        (self._stream,) = self._brief.begin(path, (self._segment.key,), left)
        if self._cancelled.is_set():
            self._stream.cancel()
        return None
