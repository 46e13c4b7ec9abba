"""Chat messages and tool calls in OpenAI's JSON: in questions, requests and replies."""

from typing import Literal

from pydantic import BaseModel, field_validator

from branchwise.core.errors import ConfigError
from branchwise.core.messages import Message, ToolCall
from branchwise.core.validation import shortened

_TEXT_PARTS = ("text", "input_text", "output_text")  # in chat completions, and in OpenAI's responses


class FunctionBody(BaseModel):
    """The function that a tool call names; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCallBody(BaseModel):
    """A tool call. `index` is its position among the message's calls and is set in streams only."""

    id: str
    type: Literal["function"]
    function: FunctionBody
    index: int | None = None

    @classmethod
    def of(cls, call: ToolCall) -> "ToolCallBody":
        return cls(id=call.id, type="function", function=FunctionBody(name=call.name, arguments=call.arguments))


class MessageBody(BaseModel):
    """One message of a chat. Reasoning in it is ignored, as chat templates do."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[ToolCallBody, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: object) -> object:
        """Return the text of content that is given as a list of text parts."""
        if content is None:
            return ""
        if not isinstance(content, list):
            return content
        return "\n".join(map(_part_text, content))

    @field_validator("tool_calls", mode="before")
    @classmethod
    def _null_as_empty(cls, calls: object) -> object:
        return () if calls is None else calls

    def message(self) -> Message:
        """Return the message as part of a prompt."""
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=self.content,
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in self.tool_calls
            ),
            tool_call_id=self.tool_call_id,
            name=self.name,
        )


def _part_text(part: object) -> str:
    """Return the text of a part of content. Raises ConfigError for any other kind of part."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else None
    if kind not in _TEXT_PARTS or not isinstance(text, str):
        raise ConfigError("content", f"has a part of type {shortened(kind)}", "send text: the model reads only text")
    return text
