"""MCP server with one tool, `solve`, which answers a question with a strategy.

server(branchwise.load()).run("stdio")
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, Field

from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.errors import client_message
from branchwise.chat.limits import Limits
from branchwise.chat.reply import Reply
from branchwise.chat.session import ChatCall, ChatSession
from branchwise.chat.turn import Charge, free_turn
from branchwise.core.errors import BranchwiseError, MissingExtraError
from branchwise.core.question import as_messages
from branchwise.core.usage import Usage
from branchwise.driver import Observer, Stop, together
from branchwise.prompts.library import TASKS
from branchwise.registry import STRATEGIES, check_named

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations

    from branchwise.integrations.mcp_progress import RunProgress
    from branchwise.integrations.mcp_server import AnsweringServer, shorten_errors
except ImportError as error:
    raise MissingExtraError(error.name or "mcp", "agents") from error

DEFAULTS = ChatConfig(task="math")
Turns = Callable[[Context], AbstractAsyncContextManager[Charge]]
"""Returns the context of a call's run. Entering it may wait, or raise BranchwiseError."""
_INSTRUCTIONS = (
    "Answers hard questions by sampling many reasoning paths of a language model and weighing their answers. "
    "Confidence is the probability that the answer is the model's most frequent one, not that it is right."
)


class Solution(BaseModel):
    """Answer to a question, with its votes and cost."""

    answer: str | None = Field(description="The answer with most votes; null if no path stated one.")
    confidence: float | None = Field(description="Probability that it is the model's most frequent answer.")
    votes: dict[str, float] = Field(description="Weight of each answer, highest first.")
    outcome: str = Field(description="How the run ended.")
    advice: str = Field(description="Meaning of the outcome.")
    text: str = Field(description="Text of the path that states the answer.")
    degraded: list[str] = Field(description="Requests that the backend could not fulfil as made.")
    errors: list[str] = Field(description="Errors during the run.")
    usage: Usage = Field(description="Tokens, forward passes and seconds of all paths.")


class Solver:
    """The tool `solve` over one backend."""

    def __init__(
        self,
        backend: Backend,
        defaults: ChatConfig = DEFAULTS,
        limits: Limits | None = None,
        *,
        observer: Observer | None = None,
        turns: Turns = lambda context: free_turn(),
    ) -> None:
        """`defaults` apply to arguments that a call omits; no call exceeds `limits`.

        `observer` receives the events of every run, which takes place within the context that `turns` returns.
        Raises ConfigError if the defaults exceed the limits.
        """
        self._backend = backend
        self._defaults = defaults
        self._limits = limits or Limits()
        self._observer = observer
        self._turns = turns
        self._stops: set[Stop] = set()
        self._session(defaults)

    async def solve(
        self,
        context: Context,
        question: Annotated[str, Field(description="The question, complete in itself.")],
        strategy: Annotated[str | None, Field(description=f"One of {', '.join(STRATEGIES)}.")] = None,
        paths: Annotated[int | None, Field(description="Most reasoning paths to sample.")] = None,
        budget_tokens: Annotated[int | None, Field(description="Most tokens to sample, over all paths.")] = None,
        budget_seconds: Annotated[float | None, Field(description="Most seconds to take.")] = None,
        task: Annotated[str | None, Field(description=f"Prompt and answer format: {', '.join(TASKS)}.")] = None,
        seed: Annotated[int | None, Field(description="Equal seeds give equal answers.")] = None,
    ) -> Solution:
        """Answer a question by sampling many reasoning paths and weighing their answers.

        Good for questions with one short answer, such as calculations, word problems and multiple choice.
        """
        arguments = {
            "strategy": strategy,
            "paths": paths,
            "budget_tokens": budget_tokens,
            "budget_seconds": budget_seconds,
            "task": task,
            "seed": seed,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        defaults = self._defaults.model_dump(exclude={"answers"} if task is not None else None)
        total = self._defaults.budget_tokens if budget_tokens is None else budget_tokens
        try:
            if strategy is not None:
                check_named(strategy)  # a client must not name code to load
            session = self._session(ChatConfig.parse({**defaults, **given}))
            call = ChatCall(as_messages(question), session.default_sampling)
            reply = await _finished(self._reply(session, call, RunProgress(total), context))
        except BranchwiseError as error:
            raise ToolError(client_message(error)) from error
        return _solution(reply)

    def stop(self) -> None:
        """End every running call with its best answer so far."""
        for stop in list(self._stops):
            stop.set()

    def server(self) -> MCPServer[object]:
        """Return a server with the tool."""
        made = AnsweringServer(
            "branchwise",
            instructions=_INSTRUCTIONS,
            version=version("branchwise"),
            log_level="WARNING",
            subscriptions=False,  # the tools never change, and each subscription would hold a connection
            middleware=[shorten_errors],
        )
        made.add_tool(self.solve, annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
        return made

    def _session(self, config: ChatConfig) -> ChatSession:
        """Return the session of a call. Raises ConfigError beyond a limit."""
        paths = self._limits.check_paths(config.paths)
        budget = self._limits.budget(config.budget_tokens, config.budget_seconds)
        limited = config.model_copy(
            update={"paths": paths, "budget_tokens": budget.tokens, "budget_seconds": budget.seconds}
        )
        session = ChatSession(self._backend, limited)
        self._limits.check_options(limited.resolve_strategy(session.default_sampling))
        return session

    async def _reply(self, session: ChatSession, call: ChatCall, progress: RunProgress, context: Context) -> Reply:
        """Answer a call within its turn."""
        stop = Stop()
        async with self._turns(context) as charge:
            self._stops.add(stop)
            try:
                async with progress.notifications(context):
                    return await session.reply(call, observer=together(progress.observe, self._observer), stop=stop)
            finally:
                self._stops.discard(stop)
                charge(progress.sampled)


def server(backend: Backend, defaults: ChatConfig = DEFAULTS) -> MCPServer[object]:
    """Return a server that answers with `backend`, one model for all calls; run it with `.run("stdio")`.

    Cancelling a call stops all its paths. Clients that request progress get notifications meanwhile.
    """
    return Solver(backend, defaults).server()


async def _finished(work: Coroutine[object, object, Reply]) -> Reply:
    """Return the result of `work` in a task of its own, which is cancelled once and then left to clean up.

    The `mcp` package cancels a call at each of its steps, so that it could not wait for its branches to end.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task})
        if task.cancelled():
            raise ToolError("the client has disconnected")
        return task.result()
    finally:
        task.cancel()


def _solution(reply: Reply) -> Solution:
    result = reply.result
    return Solution(
        answer=None if result.answer is None else _whole(result.answer),
        confidence=result.confidence,
        votes={_whole(answer): weight for answer, weight in result.votes.items()},
        outcome=result.outcome.name.lower(),
        advice=result.outcome.value,
        text=_whole(reply.content),
        degraded=[_whole(each) for each in result.degraded],
        errors=[_whole(each) for each in result.errors],
        usage=result.usage,
    )


def _whole(text: str) -> str:
    """Return a text without unpaired surrogates, which no reply can carry."""
    return text.encode("utf-8", "replace").decode()
