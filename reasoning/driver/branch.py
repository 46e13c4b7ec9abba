"""One branch from its first request to its end, over retries and a thinking budget.

The scheduler starts branches and reads their path, cost and error once they have ended.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import starmap, zip_longest
from typing import NamedTuple

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.stream import BranchStream, Broken, Ended, Extension, Tokens
from branchwise.core.errors import BranchwiseError
from branchwise.core.path import Path, StopReason, TopLogprob, word_ends
from branchwise.core.usage import Usage
from branchwise.driver.fallbacks import RETRY_DELAYS, as_branchwise_error, is_retryable, retry
from branchwise.prompts.thinking import Thinking
from branchwise.strategies.actions import Extend, Progress


class _SampledToken(NamedTuple):
    """A token as the backend delivered it; what the backend does not report is None."""

    token_id: int | None
    end: int | None
    """Length of the segment's text up to and including the token."""
    logprob: float | None
    top_logprobs: tuple[TopLogprob, ...] | None


class BranchTokens:
    """The tokens sampled for one branch. The last segment becomes its path; fixed-size chunks become Progress."""

    def __init__(self, parent: Path, key: int, *, continues_text: bool = True) -> None:
        self._continues_text = continues_text
        self.parent = parent
        """The path that the current segment continues."""
        self._key = key
        self._tokens: list[_SampledToken] = []
        self._segment_start = 0  # index of the current segment's first token
        self._text = ""  # of the current segment
        self._text_before_request = 0  # length of the segment's text when the current request began
        self._reported = 0  # tokens that Progress events contain

    @property
    def count(self) -> int:
        """Number of tokens of all segments. A piece of text without ids or log-probabilities counts as one."""
        return len(self._tokens)

    @property
    def segment_count(self) -> int:
        """Number of tokens of the current segment."""
        return len(self._tokens) - self._segment_start

    @property
    def segment_has_ids(self) -> bool:
        return any(token.token_id is not None for token in self._tokens[self._segment_start :])

    def add(self, event: Tokens) -> None:
        """Append the tokens of a backend's event."""
        self._text += event.text
        ends = [self._text_before_request + end for end in event.ends]
        rows = zip_longest(event.token_ids, ends, event.logprobs or (), event.top_logprobs or ())
        before = len(self._tokens)
        self._tokens.extend(starmap(_SampledToken, rows))
        if len(self._tokens) == before:
            self._tokens.append(_SampledToken(None, None, None, None))

    def begin_segment(self, parent: Path) -> None:
        """Start a new segment after `parent`, with the same key."""
        self.parent = parent
        self._segment_start = len(self._tokens)
        self._text = ""
        self._text_before_request = 0

    def begin_retry(self) -> None:
        """Drop the last tokens whose text was withheld when a request broke; the retry samples them again."""
        kept = len(self._tokens)
        while kept > self._segment_start and (self._tokens[kept - 1].end or 0) > len(self._text):
            kept -= 1
        if kept < len(self._tokens):
            del self._tokens[kept:]
            ends = [token.end for token in self._tokens[self._segment_start :] if token.end is not None]
            self._text = self._text[: ends[-1] if ends else 0]
        self._text_before_request = len(self._text)

    def path(self, reason: StopReason | None, trimmed: str = "") -> Path:
        """Return the path up to the last token; `trimmed` is the text that a stop string cut off."""
        segment = self._tokens[self._segment_start :]
        text = self._text + trimmed
        token_ids = tuple(token.token_id for token in segment if token.token_id is not None)
        logprobs = tuple(token.logprob for token in segment if token.logprob is not None)
        top_logprobs = tuple(token.top_logprobs for token in segment if token.top_logprobs is not None)
        count = len(token_ids) or len(segment)
        ends = tuple(min(token.end, len(text)) for token in segment if token.end is not None)
        if not token_ids and (len(ends) < count or not self._continues_text):
            ends = word_ends(text) if self._continues_text else ()
        return Path(
            parent=self.parent,
            key=self._key,
            token_ids=token_ids,
            text=text,
            ends=ends,
            logprobs=logprobs if len(logprobs) == count else None,
            top_logprobs=top_logprobs if top_logprobs and len(top_logprobs) == count else None,
            stop_reason=reason,
            shown=len(self._text) if reason is StopReason.STOP else None,
        )

    def path_to_continue(self) -> Path:
        """Return the path that the next request continues."""
        return self.path(None) if self.segment_count else self.parent

    def new_progress(self, question: int, action: Extend, branch: int) -> Iterator[Progress]:
        """Yield an event for each complete chunk of `action.watch_every` tokens that was not reported before."""
        size = action.watch_every
        while size is not None and len(self._tokens) - self._reported >= size:
            chunk = self._tokens[self._reported : self._reported + size]
            self._reported += size
            yield Progress(
                question=question,
                action=action,
                branch=branch,
                count=self._reported,
                token_ids=tuple(token.token_id for token in chunk if token.token_id is not None),
                logprobs=tuple(token.logprob for token in chunk if token.logprob is not None),
                top_logprobs=tuple(token.top_logprobs for token in chunk if token.top_logprobs is not None),
            )


class ActiveBranch:
    """A branch that its backend is generating. Await `run` once; then `path`, `cost` and `error` are final.

    A request that breaks with a retryable error is repeated after a delay, from the tokens received, as the same
    sample. Tokens that must be sampled again count against the branch's limit.
    """

    def __init__(self, backend: Backend, request: ExtendRequest, thinking: Thinking, stream: BranchStream) -> None:
        """`request` has the branch's key alone; its `sampling.max_tokens` is the limit of the whole branch."""
        self.tokens = BranchTokens(request.path, request.keys[0], continues_text=backend.capabilities.continues)
        self.path = request.path
        self.cost = Usage()
        """While the branch runs, the cost of the requests that ended."""
        self.error: BranchwiseError | None = None
        self.finished = False
        """True once the branch has ended and neither failed nor was cancelled."""
        self._backend = backend
        self._request = request  # the one under way
        self._thinking = thinking
        self._thinking_limit = _thinking_limit(request, thinking)  # tokens; None once the thoughts are closed
        self._stream = stream
        self._charged = 0  # tokens that `cost` contains
        self._resampled = 0  # tokens
        self._trimmed = ""
        self._delays = iter(RETRY_DELAYS)
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        """Stop the branch; `run` still returns."""
        self._cancelled.set()
        self._stream.cancel()

    async def run(self, on_tokens: Callable[[Tokens], None]) -> None:
        """Receive tokens until the branch ends. An error of the backend is stored, not raised."""
        try:
            reason = await self._receive(on_tokens)
            if reason is StopReason.LENGTH and self._thinking_limit is not None:
                reason = await self._answer(on_tokens)
        except BranchwiseError as error:
            self.error = error
            reason = None
        self.finished = reason is not None and reason is not StopReason.CANCELLED
        self.path = self.tokens.path(reason, self._trimmed if self.finished else "")
        discarded = self._resampled if self.finished else self.cost.sampled
        self.cost = self.cost.model_copy(update={"discarded": discarded})

    def abandon(self) -> None:
        """End the branch without its backend, which does not stop; the tokens delivered so far are charged."""
        delivered = self.tokens.count - self._charged
        prompt = len(self._request.path.all_token_ids()) if delivered else 0
        self.cost = (self.cost + Usage(prompt=prompt, prefilled=prompt, sampled=delivered)).lost()
        self.path = self.tokens.path(StopReason.CANCELLED)

    async def _receive(self, on_tokens: Callable[[Tokens], None]) -> StopReason:
        """Receive a request's events until it ends, retries included. Raises BranchwiseError."""
        while True:
            event = await self._stream.next()
            if isinstance(event, Tokens):
                self.tokens.add(event)
                on_tokens(event)
                continue
            self.cost += event.cost.model_copy(update={"discarded": 0})
            if isinstance(event, Ended):
                self._trimmed = event.trimmed
                self._charged = self.tokens.count
                return event.stop_reason
            if (reason := await self._retry(event)) is not None:
                return reason

    async def _retry(self, broken: Broken) -> StopReason | None:
        """Repeat a broken request. Return a reason if the branch ends instead; raise the error if it is final."""
        delay = next(self._delays, None)
        if delay is None or not is_retryable(broken.error):
            raise broken.error
        tokens = self.tokens
        tokens.begin_retry()
        if (
            tokens.segment_has_ids or not tokens.segment_count
        ):  # without ids, pieces of text can't be compared to tokens
            self._resampled += max(0, broken.cost.sampled - (tokens.count - self._charged))
        self._charged = tokens.count
        try:
            async with asyncio.timeout(delay):
                await self._cancelled.wait()
            return StopReason.CANCELLED
        except TimeoutError:
            return self._continue(tokens.path_to_continue())

    async def _answer(self, on_tokens: Callable[[Tokens], None]) -> StopReason:
        """Close the thoughts unless the model did, and continue the same sample with its answer."""
        path = self.tokens.path(None)
        self._thinking_limit = None
        if self._thinking.close not in path.whole_text:
            path = await retry("force", lambda: self._backend.force(path, self._thinking.closing))
        if self._cancelled.is_set():
            return StopReason.CANCELLED
        self.tokens.begin_segment(path)
        return self._continue(path) or await self._receive(on_tokens)

    def _continue(self, path: Path) -> StopReason | None:
        """Request the rest of the sample after `path`. Return LENGTH if nothing is left of its limit."""
        remaining = _limit(self._request) - self.cost.sampled
        if self._thinking_limit is not None:
            remaining = min(remaining, self._thinking_limit - self.tokens.count)
        if remaining <= 0:
            return StopReason.LENGTH
        self._request = replace(self._request, path=path)
        (self._stream,) = _submit(self._backend, self._request, remaining)
        if self._cancelled.is_set():
            self._stream.cancel()
        return None


def start_branches(backend: Backend, request: ExtendRequest, thinking: Thinking) -> Sequence[ActiveBranch]:
    """Start a branch for each key, all in one request. `request.sampling.max_tokens` limits each whole branch."""
    streams = _submit(backend, request, _thinking_limit(request, thinking) or _limit(request))
    return [
        ActiveBranch(backend, replace(request, keys=(key,)), thinking, stream)
        for key, stream in zip(request.keys, streams, strict=True)
    ]


def _submit(backend: Backend, request: ExtendRequest, max_tokens: int) -> list[BranchStream]:
    """Send `request` with its own `max_tokens`. If it can't be sent, every stream delivers the error."""
    try:
        extension = backend.extend(replace(request, sampling=replace(request.sampling, max_tokens=max_tokens)))
    except Exception as error:
        extension = Extension(len(request.keys), lambda _: None)
        for copy in range(len(request.keys)):
            extension.deliver(Broken(copy, as_branchwise_error("extend", error), Usage()))
    return extension.split()


def _limit(request: ExtendRequest) -> int:
    """Return the most tokens that the whole branch may sample."""
    assert request.sampling.max_tokens is not None
    return request.sampling.max_tokens


def _thinking_limit(request: ExtendRequest, thinking: Thinking) -> int | None:
    """Return the number of tokens after which the thoughts are closed, or None if no such limit applies."""
    if thinking.budget is None or thinking.close in request.path.whole_text:
        return None
    remaining = max(1, thinking.budget - request.path.generated)
    return remaining if remaining < _limit(request) else None
