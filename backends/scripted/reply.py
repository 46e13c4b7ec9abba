"""What one branch of the scripted backend says: how much of a reply, in what pieces, until it is stopped."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from branchwise.backends.scripted.vocabulary import Vocabulary
from branchwise.core.errors import require
from branchwise.core.path import StopReason
from branchwise.core.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Reply:
    """What the backend says to one branch."""

    text: str
    logprob: float = -0.1
    """Of every token, nats."""
    delay: float = 0.0
    """Seconds before each delivery."""
    fail_after: int | None = None
    """Break the branch after so many tokens."""
    retryable: bool = False
    """Whether what broke it may pass."""
    chunk: int = 1
    """Tokens delivered at a time."""

    def __post_init__(self) -> None:
        require(self.chunk >= 1, "Reply.chunk", f"is {self.chunk}", "use at least 1")


@dataclass(frozen=True, slots=True)
class Speech:
    """A reply as one branch will say it."""

    reply: Reply
    tokens: tuple[int, ...]
    shown: int  # characters of it that a stop leaves
    reason: StopReason | None  # None: it breaks

    def chunks(self) -> Iterator[Sequence[int]]:
        """The tokens delivered together."""
        for start in range(0, len(self.tokens), self.reply.chunk):
            yield self.tokens[start : start + self.reply.chunk]


def prepare(reply: Reply, sampling: Sampling, vocabulary: Vocabulary) -> Speech:
    """What a branch will say, and how it will end."""
    tokens, text = vocabulary.tokens(reply.text), ""
    limit = sampling.max_tokens or len(tokens)
    for count, token in enumerate(tokens, 1):
        if reply.fail_after is not None and count > reply.fail_after:
            return Speech(reply, tokens[: count - 1], len(text), None)
        if count > limit:
            return Speech(reply, tokens[:limit], len(text), StopReason.LENGTH)
        text += vocabulary.spell((token,))
        found = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        if found:
            return Speech(reply, tokens[:count], min(found), StopReason.STOP)
    broken = reply.fail_after is not None and reply.fail_after >= len(tokens)
    return Speech(reply, tokens, len(text), None if broken else StopReason.END)


class Stops:
    """The cancelling of one request: branch by branch, or where that can't be, when none is wanted."""

    def __init__(self, copies: int, one_by_one: bool) -> None:
        self.events = [asyncio.Event() for _ in range(copies)]
        self._one_by_one = one_by_one
        self._unwanted: set[int] = set()

    def cancel(self, copy: int) -> None:
        self._unwanted.add(copy)
        if self._one_by_one:
            self.events[copy].set()
        elif len(self._unwanted) == len(self.events):
            for event in self.events:
                event.set()


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait before the next tokens; whether the branch was stopped meanwhile."""
    if seconds == 0:
        await asyncio.sleep(0)
        return stop.is_set()
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
