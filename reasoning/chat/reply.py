"""The assistant's reply to a chat: which path is shown, and what of it is text, reasoning and tool calls."""

from dataclasses import dataclass

from pydantic import JsonValue

from branchwise.chat.reasoning import split_reasoning
from branchwise.chat.tool_calls import PROSE, split_calls
from branchwise.chat.tool_set import ToolSet
from branchwise.core.messages import ToolCall
from branchwise.core.path import Path
from branchwise.core.result import Result
from branchwise.prompts.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Reply:
    """The assistant's message, and the result it comes from."""

    content: str
    """Text of the shown path without the prompt's opening, reasoning and tool calls; an object that was voted on, as
    JSON. Empty if no path finished."""
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    path: Path | None
    """See `shown_path`."""
    result: Result

    @property
    def details(self) -> dict[str, JsonValue]:
        """Return the result as JSON data, without the paths and their tree."""
        record = self.result.record(tokens=False)
        return {name: value for name, value in record.items() if name not in ("paths", "tree")}


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """The next piece of a reply's content and reasoning. The last delta has the whole reply."""

    content: str
    reasoning: str = ""
    reply: Reply | None = None


def shown_path(result: Result) -> Path | None:
    """Return the first path, in issue order, that states the winning answer.

    If no path states it, return the first path that finished; None if none did.
    """
    stating = (branch.path for branch in result.paths if branch.answer and branch.answer.value == result.answer)
    return next(stating, result.paths[0].path if result.paths else None)


def sampled_text(path: Path) -> str:
    """Return the path's answer text without the opening that the prompt gave it."""
    return path.answer_text[len(path.opening) :]


def reply_from(result: Result, thinking: Thinking, tools: ToolSet | None = None, *, is_object: bool = False) -> Reply:
    """Return the reply that a result gives. With `is_object`, a winning answer is an object and replaces the text."""
    path = shown_path(result)
    if path is None:
        return Reply("", "", (), None, result)
    text, reasoning = split_reasoning(sampled_text(path), thinking)
    content, calls = split_calls(text, tools or ToolSet(), salt=f"{path.key:016x}")
    if result.value is not None:
        content = result.value.model_dump_json()
    elif is_object and not calls and result.answer is not None and result.answer != PROSE:
        content = result.answer  # next to tools, objects are voted as wholes and there is no value
    return Reply(content, reasoning, calls, path, result)
