"""MCP server with one tool, `solve`, which answers a question with a strategy.

server(branchwise.load()).run("stdio")
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, Field

from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.session import ChatCall, ChatSession
from branchwise.core.errors import BranchwiseError, MissingExtraError
from branchwise.core.question import as_messages
from branchwise.core.usage import Usage
from branchwise.driver import BranchEnded, BranchGrew, RunEvent, Standing
from branchwise.prompts.library import TASKS
from branchwise.registry import STRATEGIES, check_named
from branchwise.strategies.strategy import Decision

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise MissingExtraError(error.name or "mcp", "agents") from error

DEFAULTS = ChatConfig(task="math")
_SECONDS = 0.25  # between two progress notifications
_SHOWN = 60  # characters of an answer in a notification
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

    def __init__(self, backend: Backend, defaults: ChatConfig) -> None:
        """`defaults` apply to arguments that a call omits."""
        self._backend = backend
        self._defaults = defaults

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
        progress = _RunProgress(budget_tokens)
        try:
            if strategy is not None:
                check_named(strategy)  # a client must not name code to load
            session = ChatSession(self._backend, ChatConfig.parse({**defaults, **given}))
            async with _notifications(progress, context):
                turn = await session.reply(
                    ChatCall(as_messages(question), session.default_sampling), observer=progress.observe
                )
        except BranchwiseError as error:
            raise ToolError(str(error)) from error
        result = turn.result
        return Solution(
            answer=result.answer,
            confidence=result.confidence,
            votes=dict(result.votes),
            outcome=result.outcome.name.lower(),
            advice=result.outcome.value,
            text=turn.content,
            degraded=list(result.degraded),
            errors=list(result.errors),
            usage=result.usage,
        )


def server(backend: Backend, defaults: ChatConfig = DEFAULTS) -> MCPServer[object]:
    """Return a server that answers with `backend`, one model for all calls; run it with `.run("stdio")`.

    Cancelling a call stops all its paths. Clients that request progress get notifications meanwhile.
    """
    made: MCPServer[object] = MCPServer(
        "branchwise", instructions=_INSTRUCTIONS, version=version("branchwise"), log_level="WARNING"
    )
    hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    made.add_tool(Solver(backend, defaults).solve, annotations=hints)
    return made


class _RunProgress:
    """Progress of a run, for notifications."""

    def __init__(self, budget: int | None) -> None:
        self.sampled = 0
        self._budget = budget
        self._ended = 0
        self._decision: Decision | None = None
        self._reported = 0

    def observe(self, event: RunEvent) -> None:
        match event:
            case BranchGrew():
                self.sampled += event.tokens
            case BranchEnded():
                self._ended += event.kept
            case Standing():
                self._decision = event.decision

    async def report(self, context: Context) -> None:
        """Report the sampled tokens if their number has grown."""
        if self.sampled > self._reported:
            self._reported = self.sampled
            await context.report_progress(self.sampled, self._budget, self._message())

    def _message(self) -> str:
        text = f"paths ended: {self._ended}"
        if self._decision is None or self._decision.answer is None:
            return text
        answer = " ".join(self._decision.answer.value.split())[:_SHOWN]
        confidence = self._decision.confidence
        return f"{text}; {answer} leads" + ("" if confidence is None else f", confidence {confidence:.2f}")


@asynccontextmanager
async def _notifications(progress: _RunProgress, context: Context) -> AsyncIterator[None]:
    """Send progress notifications while the body runs, and a last one after it."""
    done = asyncio.Event()

    async def notify() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await done.wait()
            await progress.report(context)

    notifier = asyncio.create_task(notify())
    try:
        yield
        done.set()
        await asyncio.wait({notifier})
    finally:
        notifier.cancel()
        await asyncio.gather(notifier, return_exceptions=True)  # a disconnected client must not fail the call
