"""A reply as server-sent events."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from pydantic import JsonValue

from branchwise.chat.reasoning import Piece, ThoughtSplitter
from branchwise.core.errors import BranchwiseError
from branchwise.core.result import Result
from branchwise.serving.errors import error_body
from branchwise.serving.reply import (
    ChoiceBody,
    ChunkBody,
    ChunkChoiceBody,
    DeltaBody,
    FinishReason,
    Heading,
    LogprobsBody,
    UsageBody,
    choices,
    details,
)
from branchwise.serving.request import CallBody, ChatRequest
from branchwise.serving.resolve import Inquiry
from branchwise.serving.transcript import Transcript

DONE = "data: [DONE]\n\n"
PACE = 0.25
"""Seconds between two words on how a question stands."""

log = logging.getLogger(__name__)


class Stream:
    """Tells what a run says, and in the end what it comes to.

    The role; the text as it grows, or where a vote decides which text it is, how the question stands and then the
    text; why each choice ended, the last with the details; the usage, if it was asked for.
    """

    def __init__(self, request: ChatRequest, inquiry: Inquiry, heading: Heading, transcript: Transcript) -> None:
        self._request, self._inquiry, self._heading, self._transcript = request, inquiry, heading, transcript
        thinking = inquiry.task.thinking
        self._splitters = {number: ThoughtSplitter(thinking) for number in range(inquiry.choices)}

    async def events(self, run: asyncio.Task[Result]) -> AsyncGenerator[str, None]:
        """Everything from the first event to the last. Raises what fails before the model was asked."""
        transcript = self._transcript
        run.add_done_callback(lambda _: transcript.wake())
        await transcript.begun.wait()
        if run.done():
            run.result()
        roles = [self._choice(number, DeltaBody(role="assistant", content="")) for number in self._splitters]
        yield _event(self._heading.chunk(roles))
        try:
            async with aclosing(self._follow(run) if self._inquiry.follows else self._wait(run)) as chunks:
                async for chunk in chunks:
                    yield _event(chunk)
            for chunk in self._conclude(run.result()):
                yield _event(chunk)
        except Exception as error:
            if not isinstance(error, BranchwiseError):
                log.exception("a stream failed")
            yield f"data: {json.dumps(error_body(error)[1], ensure_ascii=False)}\n\n"
        yield DONE

    async def _follow(self, run: asyncio.Task[Result]) -> AsyncGenerator[ChunkBody, None]:
        """The text of every path as it grows."""
        transcript, told = self._transcript, Counter[int]()
        over = False
        while not over:
            transcript.changed.clear()
            over = run.done()
            for branch, pieces in list(transcript.texts.items()):
                text = "".join(pieces[told[branch] :])
                told[branch] = len(pieces)
                if text and (splitter := self._splitters.get(branch)) is not None:
                    for delta in _deltas(splitter.add(text)):
                        yield self._metered(self._heading.chunk([self._choice(branch, delta)]))
            if not over:
                await transcript.changed.wait()
        for branch, splitter in self._splitters.items():
            for delta in _deltas(splitter.end()):
                yield self._heading.chunk([self._choice(branch, delta)])

    def _metered(self, chunk: ChunkBody) -> ChunkBody:
        """With the usage so far, where that is asked for and known."""
        options, prompt, sampled = self._request.stream_options, self._transcript.prompt, self._transcript.sampled
        if options is not None and options.continuous_usage_stats and prompt is not None:
            chunk.usage = UsageBody(prompt_tokens=prompt, completion_tokens=sampled, total_tokens=prompt + sampled)
        return chunk

    async def _wait(self, run: asyncio.Task[Result]) -> AsyncGenerator[ChunkBody, None]:
        """How the question stands, now and then."""
        while not run.done():
            await asyncio.wait({run}, timeout=PACE)
            if self._transcript.changed.is_set() and not run.done():
                self._transcript.changed.clear()
                yield self._heading.chunk([self._choice(0, DeltaBody())], self._transcript.standing())

    def _conclude(self, result: Result) -> Iterator[ChunkBody]:
        """What it comes to."""
        said = choices(result, self._inquiry, self._request.logprobs, self._transcript.grown())
        for each in said if not self._inquiry.follows else ():
            for delta in _whole(each):
                yield self._heading.chunk([self._choice(each.index, delta)])
        told: dict[str, JsonValue] = details(result, self._inquiry)
        for each in said[:-1]:
            yield self._heading.chunk([self._end(each)])
        yield self._heading.chunk([self._end(each) for each in said[-1:]], told)
        options = self._request.stream_options
        if options is not None and options.include_usage:
            yield self._heading.usage_chunk(result.usage)

    def _end(self, said: ChoiceBody) -> ChunkChoiceBody:
        return self._choice(said.index, DeltaBody(), said.finish_reason, said.logprobs)

    def _choice(
        self, index: int, delta: DeltaBody, reason: FinishReason | None = None, logprobs: LogprobsBody | None = None
    ) -> ChunkChoiceBody:
        return ChunkChoiceBody(index=index, delta=delta, logprobs=logprobs, finish_reason=reason)


def _deltas(piece: Piece) -> Iterator[DeltaBody]:
    """What there is to tell of a piece: the thoughts come first."""
    if piece.thoughts:
        yield DeltaBody(reasoning_content=piece.thoughts)
    if piece.text:
        yield DeltaBody(content=piece.text)


def _whole(said: ChoiceBody) -> Iterator[DeltaBody]:
    """A choice in deltas."""
    message = said.message
    yield from _deltas(Piece(message.content or "", message.reasoning_content or ""))
    for place, call in enumerate(message.tool_calls or ()):
        yield DeltaBody(tool_calls=[CallBody(id=call.id, type=call.type, function=call.function, index=place)])


def _event(chunk: ChunkBody) -> str:
    return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"
