"""One branch of the scripted backend: its reply, cut at stops and limits, and its cancellation."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from branchwise.backends.scripted.vocabulary import Vocabulary
from branchwise.core.errors import require
from branchwise.core.path import StopReason
from branchwise.core.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Reply:
    """Scripted reply to one branch."""

    text: str
    logprob: float = -0.1
    """Log-probability of every token, nats."""
    delay: float = 0.0
    """Seconds before each event."""
    fail_after: int | None = None
    """Number of tokens after which the branch breaks; None: it does not break."""
    retryable: bool = False
    """Value of `retryable` in the error of a broken branch."""
    chunk: int = 1
    """Tokens in an event."""

    def __post_init__(self) -> None:
        require(self.chunk >= 1, "Reply.chunk", f"is {self.chunk}", "use at least 1")


@dataclass(frozen=True, slots=True)
class PlannedBranch:
    """A reply as one branch will deliver it."""

    reply: Reply
    tokens: tuple[int, ...]
    shown: int
    """Length of the text before a stop string."""
    reason: StopReason | None
    """None: the branch breaks."""

    def chunks(self) -> Iterator[Sequence[int]]:
        """Yield the tokens of each event."""
        for start in range(0, len(self.tokens), self.reply.chunk):
            yield self.tokens[start : start + self.reply.chunk]


def plan_branch(reply: Reply, sampling: Sampling, vocabulary: Vocabulary) -> PlannedBranch:
    """Return the tokens that a branch will deliver, and its end."""
    tokens, text = vocabulary.tokens(reply.text), ""
    limit = sampling.max_tokens or len(tokens)
    for count, token in enumerate(tokens, 1):
        if reply.fail_after is not None and count > reply.fail_after:
            return PlannedBranch(reply, tokens[: count - 1], len(text), None)
        if count > limit:
            return PlannedBranch(reply, tokens[:limit], len(text), StopReason.LENGTH)
        text += vocabulary.decode((token,))
        found = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        if found:
            return PlannedBranch(reply, tokens[:count], min(found), StopReason.STOP)
    breaks = reply.fail_after is not None and reply.fail_after >= len(tokens)
    return PlannedBranch(reply, tokens, len(text), None if breaks else StopReason.END)


class Cancellation:
    """Cancellation of one request: branch by branch, or of all branches once each is cancelled."""

    def __init__(self, copies: int, *, per_branch: bool) -> None:
        self.events = [asyncio.Event() for _ in range(copies)]
        """Set for each branch that stops."""
        self._per_branch = per_branch
        self._cancelled: set[int] = set()

    def cancel(self, copy: int) -> None:
        """Cancel one branch."""
        self._cancelled.add(copy)
        if self._per_branch:
            self.events[copy].set()
        elif len(self._cancelled) == len(self.events):
            for event in self.events:
                event.set()


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait before the next event. Return True as soon as the branch is stopped."""
    if seconds == 0:
        await asyncio.sleep(0)
        return stop.is_set()
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
