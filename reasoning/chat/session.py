"""Calls of a chat model answered by a strategy: messages and tools in, one reply out, whole or streamed."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, replace

from pydantic import BaseModel

from branchwise.answers.formats import AnswerFormat, Structured
from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.reasoning import ReasoningSplitter
from branchwise.chat.reply import Reply, ReplyDelta, reply_from
from branchwise.chat.responder import RepeatCounter
from branchwise.chat.task import with_tools
from branchwise.chat.tool_set import ToolSet
from branchwise.core.errors import BackendError
from branchwise.core.keys import repeat_seed
from branchwise.core.messages import Messages
from branchwise.core.result import Outcome, Result
from branchwise.core.sampling import Sampling
from branchwise.driver import BranchGrew, Observer, RunEvent, Stop, solve
from branchwise.prompts.library import structured
from branchwise.prompts.task import Task


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call of the chat model."""

    messages: Messages
    sampling: Sampling
    must_call: bool = False
    """Only paths that call a tool vote."""
    parallel_calls: bool = True
    """A reply may hold several tool calls; otherwise only the first one of each path counts."""
    answer_type: type[BaseModel] | None = None
    """The answer is an object of this type, voted field by field; the prompt requests it."""
    format: AnswerFormat | None = None
    """Reads the paths without tool calls, in place of the format of the config's task."""
    seed: int | None = None
    """Replaces the seed of the config; a repeated prompt then gets the same samples."""

    @property
    def tools(self) -> ToolSet:
        """Tools of the prompt. Raises ConfigError for a tool that is invalid."""
        return ToolSet.of(self.messages.tools, parallel=self.parallel_calls)


class ChatSession:
    """Answers calls over one backend. Concurrent calls are safe."""

    def __init__(self, backend: Backend, config: ChatConfig) -> None:
        self.backend = backend
        self.default_sampling = config.override(Sampling())
        self.config = config.model_copy(update={"temperature": None})  # it must not replace a call's temperature
        self._task = config.resolve_task()
        self._repeats = RepeatCounter()

    async def reply(self, call: ChatCall, *, observer: Observer | None = None, stop: Stop | None = None) -> Reply:
        """Return the reply. Cancelling stops every branch.

        Raises ConfigError for invalid arguments, the prompt included, and BackendError if no path could be sampled.
        """
        run = solve(
            call.messages,
            self.backend,
            strategy=self.config.resolve_strategy(call.sampling),
            task=_task_for(call, self._task),
            budget=self.config.budget(),
            seed=self._seed(call),
            observer=observer,
            stop=stop,
            allow_fallback=self.config.allow_fallback,
        )
        result = await _run_to_end(run)
        if result.outcome is Outcome.FAILED:
            reason = "; ".join(result.errors) or "every path failed"
            raise BackendError(reason, retryable=False, hint="no path ended")
        is_object = isinstance(call.format, Structured)
        return reply_from(result, self._task.thinking, call.tools, is_object=is_object)

    async def stream(self, call: ChatCall, *, stop: Stop | None = None) -> AsyncGenerator[ReplyDelta, None]:
        """Yield the content while it is sampled, then the reply. Closing it stops every branch. Raises as `reply` does.

        Only a single path is streamed token by token. Several paths vote before there is any content, and text that may
        become a tool call is not shown in parts: both give one delta.
        """
        texts: asyncio.Queue[str | None] = asyncio.Queue()

        def collect(event: RunEvent) -> None:
            if isinstance(event, BranchGrew):
                texts.put_nowait(event.text)

        task = asyncio.create_task(self.reply(call, observer=collect if self._streams(call) else None, stop=stop))
        task.add_done_callback(lambda _: texts.put_nowait(None))
        splitter = ReasoningSplitter(self._task.thinking)
        content = reasoning = ""
        try:
            while (text := await texts.get()) is not None:
                piece = splitter.add(text)
                if piece.text or piece.reasoning:
                    content += piece.text
                    reasoning += piece.reasoning
                    yield ReplyDelta(piece.text, piece.reasoning)
            reply = await task
        finally:
            task.cancel()
            await asyncio.wait({task})
        yield ReplyDelta(_remainder(reply.content, content), _remainder(reply.reasoning, reasoning), reply)

    def _streams(self, call: ChatCall) -> bool:
        """Return whether a single path is sampled and its text is the content."""
        is_object = call.answer_type is not None or call.format is not None
        is_whole = call.messages.tools or is_object or self.config.thinking_budget is not None
        return self.config.resolve_strategy(call.sampling).alone and not is_whole

    def _seed(self, call: ChatCall) -> int:
        if call.seed is not None:
            return call.seed
        return repeat_seed(self.config.seed, self._repeats.count(call.messages))


def _task_for(call: ChatCall, task: Task) -> Task:
    """Return the task with the answer format that the call requests."""
    if call.format is not None:
        task = replace(task, format=call.format, tentative=False)
    if call.answer_type is not None:
        requested = structured(call.answer_type)
        instruction = f"{task.instruction}\n{requested.instruction}".strip()
        task = replace(task, format=requested.format, instruction=instruction, tentative=False)
    tools = call.tools
    tools.check()
    return with_tools(task, tools, must_call=call.must_call)


def _remainder(whole: str, streamed: str) -> str:
    """Return what of `whole` was not streamed yet.

    Reasoning that the splitter can't recognize was streamed as content, and so was everything after it: then `whole`
    does not start with the streamed text, and nothing is left.
    """
    return whole[len(streamed) :] if whole.startswith(streamed) else ""


async def _run_to_end(run: Coroutine[None, None, Result]) -> Result:
    """Await a run so that it cleans up completely even if the caller is cancelled several times."""
    task = asyncio.create_task(run)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
