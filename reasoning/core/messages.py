"""Chat messages sent to a model: turns, tools and an optional prefix of the assistant's reply."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(BaseModel):
    """A tool call in an assistant turn; `arguments` is JSON text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    arguments: str


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


class Messages(BaseModel):
    """A prompt: chat turns, the tools that the model may call, and the beginning of its reply.

    `tools` are JSON-schema function descriptions in the form that chat templates expect. `prefix` is text
    that the assistant's turn already starts with. `thinking` turns the thinking mode of the chat template
    on or off; None leaves the template's default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: tuple[Message, ...]
    tools: tuple[dict[str, JsonValue], ...] = ()
    prefix: str = ""
    thinking: bool | None = None

    def with_system(self, text: str) -> "Messages":
        """Return the prompt with `text` as its system turn, appended to any system turn it already has."""
        if not text:
            return self
        first = self.turns[0]
        if first.role == "system":
            merged = Message(role="system", content=f"{first.content}\n\n{text}")
            return self.model_copy(update={"turns": (merged, *self.turns[1:])})
        return self.model_copy(update={"turns": (Message(role="system", content=text), *self.turns)})
