"""One turn of an agent: a chat and tools go in, one text with the calls of tools it makes comes out."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, JsonValue

from branchwise.answers.formats import AnswerFormat, Structured
from branchwise.backends.base import Backend
from branchwise.chat.config import Arguments
from branchwise.chat.reasoning import ThoughtSplitter
from branchwise.chat.responder import Repeats, chosen, spoken
from branchwise.chat.tool_calls import PROSE, ToolCalls, split_calls, tool_names
from branchwise.chat.transcription import as_prompt
from branchwise.core.errors import BackendError, require
from branchwise.core.keys import repeat_seed
from branchwise.core.messages import Message, Messages, ToolCall
from branchwise.core.path import Path
from branchwise.core.result import Outcome, Result
from branchwise.core.sampling import Sampling
from branchwise.driver.observe import BranchGrew, Observer, RunEvent
from branchwise.driver.solve import solve
from branchwise.driver.stop import Stop
from branchwise.prompts.library import structured
from branchwise.prompts.task import Task
from branchwise.prompts.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Ask:
    """What a model is asked for."""

    messages: Messages
    sampling: Sampling
    must_call: bool = False
    """Only paths that call a tool have a vote."""
    answer_type: type[BaseModel] | None = None
    """The answer is an object of this type, voted field by field; the prompt says so."""
    format: AnswerFormat | None = None
    """Reads the paths that call nothing, in place of the format of the arguments' task."""
    seed: int | None = None
    """In place of the arguments' own; a prompt that is asked again then draws the same samples again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The assistant's turn."""

    content: str
    """What the chosen path says besides its calls, thoughts left out; an object that was voted on, as JSON."""
    calls: tuple[ToolCall, ...]
    thoughts: str
    path: Path | None
    """The first path, in issue order, that states the winning answer; where none states one, the first that ended."""
    result: Result

    @property
    def details(self) -> dict[str, JsonValue]:
        """The answer, its confidence, the votes, the ledger and the outcome, as JSON data."""
        record = self.result.record(tokens=False)
        return {name: value for name, value in record.items() if name not in ("paths", "tree")}


@dataclass(frozen=True, slots=True)
class Piece:
    """What a turn says and thinks next; the last piece has the whole turn."""

    text: str
    thoughts: str = ""
    turn: Turn | None = None


class Exchange:
    """Asks a backend by a strategy; safe to use for several asks at once."""

    def __init__(self, backend: Backend, arguments: Arguments) -> None:
        self.backend = backend
        self.usual = arguments.sampling(Sampling())
        """How paths are drawn where an ask leaves it open."""
        self.arguments = arguments.model_copy(update={"temperature": None})  # it does not go before an ask's own
        self._task = arguments.as_task()
        self._repeats = Repeats()  # asked again, a prompt draws samples of its own

    async def turn(self, ask: Ask, *, observer: Observer | None = None, stop: Stop | None = None) -> Turn:
        """Answer. Cancelling stops every branch.

        Raises ConfigError for what makes no sense, the prompt included, BackendError where nothing could be sampled.
        """
        run = solve(
            ask.messages,
            self.backend,
            strategy=self.arguments.strategy_for(ask.sampling),
            task=_task_for(ask, self._task),
            budget=self.arguments.budget(),
            seed=self._seed(ask),
            observer=observer,
            stop=stop,
        )
        result = await in_a_task(run)
        if result.outcome is Outcome.FAILED:
            why = "; ".join(result.errors) or "every path failed"
            raise BackendError(why, retryable=False, hint="no path ended")
        return _turn(ask, result, self._task.thinking)

    async def pieces(self, ask: Ask, *, stop: Stop | None = None) -> AsyncGenerator[Piece, None]:
        """The content while it grows, then the turn. Closing it stops every branch. Raises as `turn` does.

        One path's text comes token by token. Several have none before they have voted, and what may turn out to be the
        call of a tool is not shown by halves: then there is one piece.
        """
        grown: asyncio.Queue[str | None] = asyncio.Queue()

        def hear(event: RunEvent) -> None:
            if isinstance(event, BranchGrew):
                grown.put_nowait(event.text)

        task = asyncio.create_task(self.turn(ask, observer=hear if self._grows(ask) else None, stop=stop))
        task.add_done_callback(lambda _: grown.put_nowait(None))
        splitter, shown, thought = ThoughtSplitter(self._task.thinking), "", ""
        try:
            while (text := await grown.get()) is not None:
                piece = splitter.add(text)
                if piece.text or piece.thoughts:
                    shown, thought = shown + piece.text, thought + piece.thoughts
                    yield Piece(piece.text, piece.thoughts)
            turn = await task
        finally:
            task.cancel()
            await asyncio.wait({task})
        yield Piece(_rest(turn.content, shown), _rest(turn.thoughts, thought), turn)

    def _grows(self, ask: Ask) -> bool:
        """Whether there is one path alone, and its text is the content."""
        strategy = self.arguments.strategy_for(ask.sampling)
        whole = ask.messages.tools or ask.answer_type is not None or self.arguments.thinking_budget is not None
        return strategy.alone and not whole

    def _seed(self, ask: Ask) -> int:
        if ask.seed is not None:
            return ask.seed
        return repeat_seed(self.arguments.seed, self._repeats.note(ask.messages))


def chat(turns: Sequence[Message], tools: Sequence[dict[str, JsonValue]] = ()) -> Messages:
    """A chat as a prompt; an assistant's last turn is how its answer begins, and what a tool returned has its name.

    Raises ConfigError where it ends with calls.
    """
    require(
        not (turns and turns[-1].role == "assistant" and turns[-1].tool_calls),
        "messages", "end with calls of tools", "add what the tools returned",
    )  # fmt: skip
    names = {call.id: call.name for turn in turns for call in turn.tool_calls}
    named = [
        turn.model_copy(update={"name": names.get(turn.tool_call_id or "")})
        if turn.role == "tool" and turn.name is None
        else turn
        for turn in turns
    ]
    return as_prompt(named).model_copy(update={"tools": tuple(tools)})


def _rest(whole: str, shown: str) -> str:
    """What is still to be shown. Thoughts that nobody announced were shown as text, and what follows them with them."""
    return whole[len(shown) :] if whole.startswith(shown) else ""


async def in_a_task(run: Coroutine[None, None, Result]) -> Result:
    """Await a run so that it ends in order even where whoever waits for it is cancelled over and over."""
    task = asyncio.create_task(run)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _task_for(ask: Ask, task: Task) -> Task:
    """The task, reading answers of the kind that is asked for."""
    read_by = ask.format or task.format
    if ask.answer_type is not None:
        whole = structured(ask.answer_type)
        read_by = whole.format
        task = replace(task, instruction=f"{task.instruction}\n{whole.instruction}".strip())
    if ask.messages.tools:
        read_by = ToolCalls.of(ask.messages.tools, read_by, must_call=ask.must_call)
    return replace(task, format=read_by)


def _turn(ask: Ask, result: Result, thinking: Thinking) -> Turn:
    path = chosen(result)
    if path is None:
        return Turn("", (), "", None, result)
    text, thoughts = spoken(path.answer_text[len(path.opening) :], thinking)
    content, calls = split_calls(text, tool_names(ask.messages.tools), salt=f"{path.key:016x}")
    if result.value is not None:
        content = result.value.model_dump_json()
    elif isinstance(ask.format, Structured) and not calls and result.answer not in (None, PROSE):
        content = str(result.answer)  # beside tools, objects are voted as wholes
    return Turn(content, calls, thoughts, path, result)
