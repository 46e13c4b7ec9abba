"""Conversion of LangChain's messages, tools and usage."""

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from pydantic import JsonValue

from branchwise.chat.tool_set import ToolSet
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, ToolCall
from branchwise.core.usage import Usage

_ROLES: Mapping[type[BaseMessage], Literal["system", "user", "assistant", "tool"]] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
    ToolMessage: "tool",
}
# Parts of earlier replies that are skipped: calls are taken from the message itself, thinking is dropped.
_LEFT_OUT = ("reasoning", "thinking", "redacted_thinking", "tool_call", "tool_call_chunk", "tool_use", "function_call")


class OfferedTools(NamedTuple):
    """Tools that may be called, and whether a call is required."""

    tools: list[dict[str, JsonValue]]
    must_call: bool


def offer(tools: list[dict[str, JsonValue]], choice: object) -> OfferedTools:
    """Apply a `tool_choice` to the tools. Raises ConfigError if it selects none of them."""
    if choice in (None, False, "auto"):
        return OfferedTools(tools, False)
    if choice == "none":
        return OfferedTools([], False)
    if choice in (True, "any", "required"):
        return OfferedTools(tools, True)
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else choice
    names = ToolSet.of(tools).names
    chosen = [tool for tool, offered in zip(tools, names, strict=True) if offered == name]
    known = ", ".join(("auto", "none", "any", *names))
    require(bool(chosen), "tool_choice", f"is {choice!r}", f"use one of {known}")
    return OfferedTools(chosen, True)


def read_message(turn: BaseMessage) -> Message:
    """Convert a turn. Raises ConfigError for content the model cannot read."""
    role = next((role for kind, role in _ROLES.items() if isinstance(turn, kind)), None)
    if role is None:
        raise ConfigError("messages", f"contain one of type {turn.type}", "use system, human, ai and tool messages")
    calls = turn.tool_calls if isinstance(turn, AIMessage) else []
    return Message(
        role=role,
        content=_text(turn),
        tool_calls=tuple(
            ToolCall(id=call["id"] or "", name=call["name"], arguments=json.dumps(call["args"], ensure_ascii=False))
            for call in calls
        ),
        tool_call_id=turn.tool_call_id if isinstance(turn, ToolMessage) else None,
        name=turn.name if isinstance(turn, ToolMessage) else None,
    )


def usage_metadata(spent: Usage) -> UsageMetadata:
    """Convert the usage: `input_tokens` of every request, `cache_read` the cached ones among them."""
    return UsageMetadata(
        input_tokens=spent.prompt,
        output_tokens=spent.sampled,
        total_tokens=spent.prompt + spent.sampled,
        input_token_details=InputTokenDetails(cache_read=spent.reused),
    )


def _text(turn: BaseMessage) -> str:
    if isinstance(turn.content, str):
        return turn.content
    texts = []
    for part in turn.content:
        kind = "text" if isinstance(part, str) else part.get("type")
        if kind == "text":
            texts.append(part if isinstance(part, str) else str(part.get("text", "")))
        elif not (isinstance(turn, AIMessage) and kind in _LEFT_OUT):
            raise ConfigError("messages", f"contain {kind}, but the model reads only text", "send text")
    return "\n".join(texts)
