"""A reply as server-sent events: text while it is sampled, or the standing of the vote until there is a text."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from branchwise.chat.reasoning import ReasoningSplitter, SplitText
from branchwise.core.errors import BranchwiseError
from branchwise.core.message_json import ToolCallBody
from branchwise.core.result import Result
from branchwise.serving.completion import (
    ChoiceBody,
    ChunkBody,
    ChunkChoiceBody,
    DeltaBody,
    FinishReason,
    LogprobsBody,
    UsageBody,
)
from branchwise.serving.errors import error_reply
from branchwise.serving.progress import RunProgress
from branchwise.serving.reply import ReplyHeader, choices, details
from branchwise.serving.resolve import ResolvedRequest

DONE = "data: [DONE]\n\n"
STANDING_SECONDS = 0.25
"""Minimum number of seconds between two chunks with the standing of a vote."""

log = logging.getLogger(__name__)


class ReplyStream:
    """The events of one reply, in this order.

    1. the role of each choice
    2. the text while it is sampled; or, if a vote selects the text, the standing of the vote, then the text
    3. the finish reason of each choice, the last one with the key `branchwise`
    4. the usage, if the request includes it
    """

    def __init__(self, request: ResolvedRequest, header: ReplyHeader, progress: RunProgress) -> None:
        self._request = request
        self._stream_options = request.request.stream_options
        self._header = header
        self._progress = progress
        thinking = request.task.thinking
        self._splitters = {number: ReasoningSplitter(thinking) for number in range(request.choice_count)}

    async def events(self, run: asyncio.Task[Result]) -> AsyncGenerator[str, None]:
        """Yield all events. Raises errors that occur before the model got a branch; later errors become an event."""
        run.add_done_callback(lambda _: self._progress.wake())
        await self._progress.first_branch.wait()
        if run.done():
            run.result()
        roles = [_chunk_choice(number, DeltaBody(role="assistant", content="")) for number in self._splitters]
        yield self._header.chunk(roles).event()
        try:
            while_running = self._texts(run) if self._request.streams_text else self._standings(run)
            async with aclosing(while_running) as chunks:
                async for chunk in chunks:
                    yield chunk.event()
            for chunk in self._conclusion(run.result()):
                yield chunk.event()
        except Exception as error:
            if not isinstance(error, BranchwiseError):
                log.exception("a stream failed")
            yield f"data: {json.dumps(error_reply(error).body, ensure_ascii=False)}\n\n"
        yield DONE

    async def _texts(self, run: asyncio.Task[Result]) -> AsyncGenerator[ChunkBody, None]:
        """Yield the text of every path while it is sampled."""
        progress = self._progress
        sent = Counter[int]()  # pieces of text, by branch
        is_over = False
        while not is_over:
            progress.changed.clear()
            is_over = run.done()
            for branch, pieces in list(progress.texts.items()):
                text = "".join(pieces[sent[branch] :])
                sent[branch] = len(pieces)
                if text and (splitter := self._splitters.get(branch)) is not None:
                    for delta in _deltas(splitter.add(text)):
                        yield self._with_usage(self._header.chunk([_chunk_choice(branch, delta)]))
            if not is_over:
                await progress.changed.wait()
        for branch, splitter in self._splitters.items():
            for delta in _deltas(splitter.end()):
                yield self._header.chunk([_chunk_choice(branch, delta)])

    def _with_usage(self, chunk: ChunkBody) -> ChunkBody:
        """Return the chunk with the usage so far, if the request includes it and it is known."""
        prompt, sampled = self._progress.prompt, self._progress.sampled
        if self._stream_options is not None and self._stream_options.continuous_usage_stats and prompt is not None:
            chunk.usage = UsageBody(prompt_tokens=prompt, completion_tokens=sampled, total_tokens=prompt + sampled)
        return chunk

    async def _standings(self, run: asyncio.Task[Result]) -> AsyncGenerator[ChunkBody, None]:
        """Yield the standing of the vote when it has changed."""
        while not run.done():
            await asyncio.wait({run}, timeout=STANDING_SECONDS)
            if self._progress.changed.is_set() and not run.done():
                self._progress.changed.clear()
                yield self._header.chunk([_chunk_choice(0, DeltaBody())], self._progress.standing())

    def _conclusion(self, result: Result) -> Iterator[ChunkBody]:
        """Yield the chunks that follow the end of the run."""
        finished = choices(result, self._request, self._progress.branch_texts())
        if not self._request.streams_text:
            for choice in finished:
                for delta in _message_deltas(choice):
                    yield self._header.chunk([_chunk_choice(choice.index, delta)])
        for choice in finished[:-1]:
            yield self._header.chunk([_last_chunk_choice(choice)])
        last = [_last_chunk_choice(choice) for choice in finished[-1:]]
        yield self._header.chunk(last, details(result, self._request))
        if self._stream_options is not None and self._stream_options.include_usage:
            yield self._header.usage_chunk(result.usage)


def _chunk_choice(
    index: int, delta: DeltaBody, finish_reason: FinishReason | None = None, logprobs: LogprobsBody | None = None
) -> ChunkChoiceBody:
    return ChunkChoiceBody(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)


def _last_chunk_choice(choice: ChoiceBody) -> ChunkChoiceBody:
    return _chunk_choice(choice.index, DeltaBody(), choice.finish_reason, choice.logprobs)


def _deltas(piece: SplitText) -> Iterator[DeltaBody]:
    """Yield the parts of a piece that are not empty, the reasoning first."""
    if piece.reasoning:
        yield DeltaBody(reasoning_content=piece.reasoning)
    if piece.text:
        yield DeltaBody(content=piece.text)


def _message_deltas(choice: ChoiceBody) -> Iterator[DeltaBody]:
    """Yield the whole message of a choice as deltas."""
    message = choice.message
    yield from _deltas(SplitText(message.content or "", message.reasoning_content or ""))
    for index, call in enumerate(message.tool_calls or ()):
        yield DeltaBody(tool_calls=[ToolCallBody(id=call.id, type=call.type, function=call.function, index=index)])
