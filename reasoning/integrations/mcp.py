"""An MCP server with one tool, `solve`: a question goes in, the answer of a strategy comes out.

server(branchwise.load()).run("stdio")
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from pydantic import BaseModel, Field

from branchwise import __version__
from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.session import ChatCall, ChatSession
from branchwise.core.errors import BranchwiseError, MissingExtraError
from branchwise.core.messages import as_messages
from branchwise.core.usage import Usage
from branchwise.driver import BranchEnded, BranchGrew, RunEvent, Standing
from branchwise.prompts.library import TASKS
from branchwise.registry import STRATEGIES
from branchwise.strategies.strategy import Decision

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise MissingExtraError(error.name or "mcp", "agents") from error

USUAL = ChatConfig(task="math", paths=8)
_SECONDS = 0.25  # between two notes of progress
_SHOWN = 60  # characters of an answer in a note
_INSTRUCTIONS = (
    "Answers hard questions by sampling many reasoning paths of a language model and weighing their answers. "
    "Confidence is how sure it is that the answer is the model's most frequent one, not that it is right."
)


class Solution(BaseModel):
    """What came of a question."""

    answer: str | None = Field(description="The answer with most votes; null where no path stated one.")
    confidence: float | None = Field(description="Probability that it is the model's most frequent answer.")
    votes: dict[str, float] = Field(description="Weight of each answer, most first.")
    outcome: str = Field(description="How the run ended.")
    advice: str = Field(description="What that means.")
    text: str = Field(description="What the path says that states the answer.")
    degraded: list[str] = Field(description="What could not be done as asked.")
    errors: list[str] = Field(description="What went wrong.")
    usage: Usage = Field(description="Tokens, forward passes and seconds of all paths.")


class Solver:
    """The tool."""

    def __init__(self, backend: Backend, usual: ChatConfig) -> None:
        """`usual` is what a call leaves open."""
        self._backend = backend
        self._usual = usual

    async def solve(
        self,
        context: Context,
        question: Annotated[str, Field(description="The question, complete in itself.")],
        strategy: Annotated[str | None, Field(description=f"One of {', '.join(STRATEGIES)}.")] = None,
        paths: Annotated[int | None, Field(description="Most reasoning paths to sample.")] = None,
        budget_tokens: Annotated[int | None, Field(description="Most tokens to sample, over all paths.")] = None,
        budget_seconds: Annotated[float | None, Field(description="Most seconds to take.")] = None,
        task: Annotated[
            str | None, Field(description=f"How the question is put and its answer read: {', '.join(TASKS)}.")
        ] = None,
        seed: Annotated[int | None, Field(description="Equal seeds give equal answers.")] = None,
    ) -> Solution:
        """Answer a question by sampling many reasoning paths and weighing their answers.

        Good for questions with one short answer, such as calculations, word problems and multiple choice.
        """
        asked = {
            "strategy": strategy,
            "paths": paths,
            "budget_tokens": budget_tokens,
            "budget_seconds": budget_seconds,
            "task": task,
            "seed": seed,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        usual = self._usual.model_dump(exclude={"answers"} if task is not None else None)
        board = _Board(budget_tokens)
        try:
            session = ChatSession(self._backend, ChatConfig.parse({**usual, **given}))
            async with _told(board, context):
                turn = await session.reply(
                    ChatCall(as_messages(question), session.default_sampling), observer=board.observe
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


def server(backend: Backend, usual: ChatConfig = USUAL) -> MCPServer[object]:
    """A server that answers with `backend`, one model for all its calls; run it with `.run("stdio")`.

    Cancelling a call stops all its paths. While they run, a client that asks for progress is told of it.
    """
    made: MCPServer[object] = MCPServer(
        "branchwise", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    made.add_tool(Solver(backend, usual).solve, annotations=hints)
    return made


class _Board:
    """Where a run stands."""

    def __init__(self, budget: int | None) -> None:
        self.sampled = 0
        self._budget = budget
        self._ended = 0
        self._decision: Decision | None = None
        self._told = 0

    def observe(self, event: RunEvent) -> None:
        match event:
            case BranchGrew():
                self.sampled += event.tokens
            case BranchEnded():
                self._ended += event.kept
            case Standing():
                self._decision = event.decision

    async def tell(self, context: Context) -> None:
        """Progress counts sampled tokens, and only ever grows."""
        if self.sampled > self._told:
            self._told = self.sampled
            await context.report_progress(self.sampled, self._budget, self._message())

    def _message(self) -> str:
        said = f"paths ended: {self._ended}"
        if self._decision is None or self._decision.answer is None:
            return said
        answer = " ".join(self._decision.answer.value.split())[:_SHOWN]
        confidence = self._decision.confidence
        return f"{said}; {answer} leads" + ("" if confidence is None else f", confidence {confidence:.2f}")


@asynccontextmanager
async def _told(board: _Board, context: Context) -> AsyncIterator[None]:
    """Tells of progress, and of where it ended."""

    done = asyncio.Event()

    async def tell() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await done.wait()
            await board.tell(context)

    telling = asyncio.create_task(tell())
    try:
        yield
        done.set()
        await asyncio.wait({telling})
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)  # a client that left is no reason to fail
