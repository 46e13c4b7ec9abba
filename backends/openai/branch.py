"""One running branch: its request, the repetitions of it, and the branch's usage."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from branchwise.backends.base import ExtendRequest, closed_error
from branchwise.backends.openai.branch_text import BranchText
from branchwise.backends.openai.endpoint import (
    Endpoint,
    InvalidStreamError,
    RestartedTurnError,
    StreamedError,
    StreamReader,
)
from branchwise.backends.openai.replicas import Replica
from branchwise.backends.openai.responses import BranchChunk, ReportedUsage
from branchwise.backends.openai.retry import retry_policy
from branchwise.backends.openai.server_errors import ServerError, malformed_response, streamed_error
from branchwise.backends.openai.transport import Transport
from branchwise.backends.stream import Broken, Ended, Extension
from branchwise.core.errors import BackendError, ContinuationError
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage

_USAGE_SECONDS = 5.0
"""Seconds to wait for the usage of a branch that has ended."""
_NO_CONTINUATION = "use a server that continues the assistant's turn, or a strategy that votes"
_CHARACTERS_PER_TOKEN = 3
"""Used to estimate prompts if the server reports no usage. It overestimates most of them."""

TokenStrings = Callable[[Sequence[int]], Awaitable[tuple[str, ...]]]


class BranchContext(NamedTuple):
    """Parts that all branches of a backend share."""

    transport: Transport
    endpoint: Endpoint
    continuing: Endpoint
    """Endpoint for paths with sampled text."""
    token_strings: TokenStrings
    """Returns the text of each token decoded alone."""


class Branch:
    """One branch. It runs as a task, whose end `finish` delivers as the branch's end."""

    def __init__(
        self,
        context: BranchContext,
        extension: Extension,
        copy: int,
        request: ExtendRequest,
        *,
        key: int,
        affinity: bytes,
    ) -> None:
        self._context = context
        self._endpoint = context.endpoint if request.path.parent is None else context.continuing
        self._extension = extension
        self._copy = copy
        self._request = request
        self._key = key
        self._affinity = affinity
        self._text = self._new_text()
        self._usage: ReportedUsage | None = None
        self._reason: StopReason | None = None
        self._replica: Replica | None = None
        self._delivered = False

    async def run(self) -> None:
        """Run the branch to its end. Raises ServerError if it breaks."""
        settings = self._context.transport.settings
        policy = retry_policy(
            settings, may_retry=lambda: not self._delivered, has_alternative=self._has_alternative_replica
        )
        try:
            await policy(self._attempt)
        except RestartedTurnError as error:
            raise ContinuationError(f"{self._url} {error}", hint=_NO_CONTINUATION) from error
        except ServerError as error:
            if self._is_refused_continuation(error):
                raise ContinuationError(error.problem, hint=_NO_CONTINUATION) from error
            raise

    def _is_refused_continuation(self, error: ServerError) -> bool:
        """Return True if the server no longer continues text, and not just this text."""
        continues_text = self._request.path.parent is not None and not self._endpoint.features.tokens
        return continues_text and error.status in (400, 404, 422, 501) and not error.about_length

    @property
    def _url(self) -> str:
        return "the server" if self._replica is None else self._replica.url

    def finish(self, task: asyncio.Task[None], *, backend_closed: bool) -> None:
        """Deliver the branch's end. A cancelled task is a cancelled branch, unless the backend was closed."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled() and backend_closed and self._reason is None:
            error = closed_error()
        elif error is not None and not isinstance(error, BackendError):
            error = BackendError(
                f"extend: the backend failed with {type(error).__name__}: {error}",
                retryable=False,
                hint="report this with the server's name",
            )
        if error is not None:
            self._extension.deliver(Broken(self._copy, error, self._cost(discarded=True)))
            return
        reason = self._reason or StopReason.CANCELLED
        trimmed = self._text.trimmed if reason is StopReason.STOP else ""
        cost = self._cost(discarded=reason is StopReason.CANCELLED)
        self._extension.deliver(Ended(self._copy, reason, cost, trimmed))

    def _cost(self, *, discarded: bool) -> Usage:
        """Return the branch's usage, as reported or as delivered; empty before its first token."""
        reported = self._usage
        prompt = self._endpoint.prompt_tokens(self._request.path)
        sampled = self._text.count
        if reported is not None and prompt is None:
            sampled = reported.completion_tokens
        if not sampled and reported is None:
            return Usage()
        if prompt is None:
            prompt = reported.prompt_tokens if reported is not None else estimate_tokens(self._request.path)
        reused = min(prompt, (reported.cached if reported is not None else None) or 0)
        return Usage(
            prompt=prompt,
            reused=reused,
            prefilled=prompt - reused,
            sampled=sampled,
            discarded=sampled if discarded else 0,
            forward_passes=sampled,  # servers do not report passes; with speculative decoding there are fewer
        )

    def _new_text(self) -> BranchText:
        sampling, endpoint = self._request.sampling, self._endpoint
        stops = (*sampling.stop, endpoint.turn_end) if endpoint.turn_end else sampling.stop
        return BranchText(self._copy, stops, min(sampling.logprobs, endpoint.features.alternatives))

    def _has_alternative_replica(self) -> bool:
        return self._replica is not None and self._context.transport.replicas.has_alternative(self._replica)

    async def _attempt(self) -> None:
        """Send one request and read its response. Raises ServerError."""
        transport, endpoint = self._context.transport, self._endpoint
        self._text, self._usage = self._new_text(), None
        connections = await transport.connections.current()
        async with connections.slots:
            replica = self._replica = transport.replicas.choose(self._affinity, self._replica)
            body = endpoint.body(self._request, self._key)
            try:
                async with (
                    asyncio.timeout(None) as usage_timeout,
                    transport.stream(replica, endpoint.path, body) as events,
                ):
                    reader = endpoint.reader(self._request)
                    async for data in events:
                        if data.strip() != b"[DONE]":
                            finished = await self._take(replica, reader, data, usage_timeout)
                        else:  # a connection whose response is read to its end can be used again
                            finished = self._reason is None
                        if finished:
                            break
            except (ServerError, TimeoutError):
                if self._reason is None:  # otherwise the branch is complete, and only its usage is missing
                    raise
        if self._reason is None:
            raise malformed_response(replica.url, "ended the stream before the branch")

    async def _take(self, replica: Replica, reader: StreamReader, data: bytes, usage_timeout: asyncio.Timeout) -> bool:
        """Read one event and deliver its tokens. Return True if no further event is needed."""
        chunk = self._read(replica, reader, data)
        self._usage = chunk.usage or self._usage
        if self._reason is not None or chunk.empty:
            return False
        strings = chunk.strings
        if self._text.needs_strings(chunk):
            strings = await self._context.token_strings(chunk.token_ids)
        tokens = self._text.append(chunk, strings)
        if tokens is not None:
            self._delivered = True
            self._extension.deliver(tokens)
        self._reason = self._stop_reason(replica, chunk)
        if self._reason is None:
            await asyncio.sleep(0)  # the consumer may cancel the branch after these tokens
        elif chunk.finish is None:
            return True  # the backend found a stop string; the server would continue
        else:
            usage_timeout.reschedule(asyncio.get_running_loop().time() + _USAGE_SECONDS)
        return False

    def _read(self, replica: Replica, reader: StreamReader, data: bytes) -> BranchChunk:
        try:
            return reader.read(data)
        except StreamedError as error:
            raise streamed_error(replica.url, error.reported, self._context.transport.settings.key()) from None
        except RestartedTurnError:
            raise
        except InvalidStreamError as error:
            raise malformed_response(replica.url, str(error)) from None
        except ValueError as error:
            raise malformed_response(replica.url, "sends events that are not valid JSON") from error

    def _stop_reason(self, replica: Replica, chunk: BranchChunk) -> StopReason | None:
        """Return the reason if the branch ends with this chunk, or None."""
        if self._text.stop_at is not None:
            end = self._endpoint.turn_end
            return StopReason.END if end and self._text.trimmed.startswith(end) else StopReason.STOP
        match chunk.finish:
            case None:
                return None
            case "stop" | "tool_calls" | "function_call" | "eos" | "end_turn":
                return StopReason.END
            case "length" | "max_tokens":
                return StopReason.LENGTH
            case "content_filter":
                hint = "change the question, or turn the server's filter off"
                raise ServerError(f"{replica.url} stopped at its content filter", retryable=False, hint=hint)
            case _:
                raise malformed_response(replica.url, "aborted the branch")


def estimate_tokens(path: Path) -> int:
    """Return an estimate of the prompt tokens of a path that has text only."""
    messages = path.root.messages
    characters = len("" if messages is None else messages.model_dump_json()) + len(path.whole_text)
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)
