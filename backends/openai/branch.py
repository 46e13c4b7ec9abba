"""One branch under way: a request, the ones that take its place, and what it cost."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from branchwise.backends.base import ExtendRequest, closed_error
from branchwise.backends.openai.branch_text import Reading
from branchwise.backends.openai.dialect import Dialect, Reader, TroubleError, WrongAnswerError
from branchwise.backends.openai.failures import ServerError, in_stream, malformed
from branchwise.backends.openai.replicas import Replica
from branchwise.backends.openai.retrying import retrying
from branchwise.backends.openai.transport import Transport
from branchwise.backends.openai.wire import Piece, ToldUsage
from branchwise.backends.stream import Broken, Ended, Extension
from branchwise.core.errors import BackendError
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage

_LAST_WORDS = 5.0  # seconds that a server has to tell the usage of a branch that ended
_CHARACTERS = 3  # of a token, where a server tells no usage: more rather than less

Spell = Callable[[Sequence[int]], Awaitable[tuple[str, ...]]]


class Means(NamedTuple):
    """What the branches of a backend work with."""

    transport: Transport
    dialect: Dialect
    spell: Spell
    """What tokens spell, each by itself."""


class Branch:
    """Runs as a task; its end is delivered however the task ends, by `settle`."""

    def __init__(
        self, means: Means, extension: Extension, copy: int, request: ExtendRequest, key: int, affinity: bytes
    ) -> None:
        self._means, self._extension, self._copy = means, extension, copy
        self._request, self._key, self._affinity = request, key, affinity
        self._reading = self._begin()
        self._told: ToldUsage | None = None
        self._reason: StopReason | None = None
        self._replica: Replica | None = None
        self._heard = False

    async def run(self) -> None:
        """Raises ServerError where the branch breaks."""
        transport = self._means.transport
        await retrying(transport.settings, lambda: not self._heard, self._elsewhere)(self._attempt)

    def settle(self, task: asyncio.Task[None], closed: bool) -> None:
        """Deliver the branch's end. It is cancelled where its task was, unless the backend is closed."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled() and closed and self._reason is None:
            error = closed_error()
        elif error is not None and not isinstance(error, BackendError):
            error = BackendError(
                f"extend: the backend failed with {type(error).__name__}: {error}",
                retryable=False,
                hint="report this with the server's name",
            )
        if error is not None:
            self._extension.deliver(Broken(self._copy, error, self.cost(lost=True)))
            return
        reason = self._reason or StopReason.CANCELLED
        trimmed = self._reading.trimmed if reason is StopReason.STOP else ""
        cost = self.cost(lost=reason is StopReason.CANCELLED)
        self._extension.deliver(Ended(self._copy, reason, cost, trimmed))

    def cost(self, *, lost: bool) -> Usage:
        """What the branch cost so far, by the server or by what was delivered; nothing before its first token."""
        told, given = self._told, self._means.dialect.given(self._request.path)
        by_tokens = given is not None
        sampled = self._reading.count
        if told is not None and not by_tokens:
            sampled = told.completion_tokens
        if not sampled and told is None:
            return Usage()
        if given is None:
            given = told.prompt_tokens if told is not None else roughly(self._request.path)
        reused = min(given, (told.cached if told is not None else None) or 0)
        return Usage(
            prompt=given,
            reused=reused,
            prefilled=given - reused,
            sampled=sampled,
            discarded=sampled if lost else 0,
            forward_passes=sampled,  # no server tells; one that drafts needs fewer
        )

    def _begin(self) -> Reading:
        sampling, features = self._request.sampling, self._means.dialect.features
        return Reading(self._copy, sampling.stop, min(sampling.logprobs, features.alternatives))

    def _elsewhere(self) -> bool:
        return self._replica is not None and self._means.transport.replicas.elsewhere(self._replica)

    async def _attempt(self) -> None:
        """One request."""
        transport, dialect = self._means.transport, self._means.dialect
        self._reading, self._told = self._begin(), None
        line = await transport.lines.here()
        async with line.turns:
            replica = self._replica = transport.replicas.choose(self._affinity, self._replica)
            try:
                async with (
                    asyncio.timeout(None) as patience,
                    transport.stream(replica, dialect.path, dialect.body(self._request, self._key)) as events,
                ):
                    reader = dialect.reader(self._request)
                    async for data in events:
                        if data.strip() != b"[DONE]":
                            enough = await self._take(replica, reader, data, patience)
                        else:  # a connection that is read to its end is used again
                            enough = self._reason is None
                        if enough:
                            break
            except (ServerError, TimeoutError):
                if self._reason is None:  # else it is complete, and only its usage is lost
                    raise
        if self._reason is None:
            raise malformed(replica.url, "ended its answer before the end")

    async def _take(self, replica: Replica, reader: Reader, data: bytes, patience: asyncio.Timeout) -> bool:
        """Read one event; whether to hear no more."""
        piece = self._read(replica, reader, data)
        self._told = piece.usage or self._told
        if self._reason is not None or piece.empty:
            return False
        strings = piece.strings
        if self._reading.wants_strings(piece):
            strings = await self._means.spell(piece.token_ids)
        tokens = self._reading.read(piece, strings)
        if tokens is not None:
            self._heard = True
            self._extension.deliver(tokens)
        self._reason = self._why(replica, piece)
        if self._reason is None:
            await asyncio.sleep(0)  # whoever hears this may want no more
        elif piece.finish is None:
            return True  # a stop that was found here: the server would go on
        else:
            patience.reschedule(asyncio.get_running_loop().time() + _LAST_WORDS)
        return False

    def _read(self, replica: Replica, reader: Reader, data: bytes) -> Piece:
        try:
            return reader.read(data)
        except TroubleError as error:
            raise in_stream(replica.url, error.told, self._means.transport.settings.key()) from None
        except WrongAnswerError as error:
            raise malformed(replica.url, str(error)) from None
        except ValueError as error:
            raise malformed(replica.url, "sends what can't be read") from error

    def _why(self, replica: Replica, piece: Piece) -> StopReason | None:
        """Why the branch ends behind a piece, if it does."""
        if self._reading.shown is not None:
            return StopReason.STOP
        match piece.finish:
            case None:
                return None
            case "stop" | "tool_calls" | "function_call" | "eos" | "end_turn":
                return StopReason.END
            case "length" | "max_tokens":
                return StopReason.LENGTH
            case "content_filter":
                hint = "ask something else, or turn the server's filter off"
                raise ServerError(f"{replica.url} cut its answer off by a filter", retryable=False, hint=hint)
            case _:
                raise malformed(replica.url, "broke its answer off")


def roughly(path: Path) -> int:
    """How many tokens a path of text may have."""
    messages = path.root.messages
    given = len("" if messages is None else messages.model_dump_json()) + len(path.whole_text)
    return math.ceil(given / _CHARACTERS)
