"""Conversion of Pydantic AI's messages, tools and usage."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import JsonValue
from pydantic_ai.messages import (
    FinishReason,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ToolOrOutput
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from branchwise.chat.reply import Reply
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, ToolCall
from branchwise.core.path import StopReason


class OfferedTools(NamedTuple):
    """Tools that may be called, and whether a call is required."""

    tools: list[ToolDefinition]
    must_call: bool


def offer(params: ModelRequestParameters, choice: object) -> OfferedTools:
    """Apply a `tool_choice` to the tools. Raises ConfigError if it selects none of them."""
    functions, outputs = params.declared_function_tools, params.output_tools
    must_call = not params.allow_text_output
    match choice:
        case None | "auto":
            return OfferedTools([*functions, *outputs], must_call)
        case "required":
            return OfferedTools([*functions], True)
        case "none" | []:
            return OfferedTools([*outputs], must_call)
        case ToolOrOutput():
            return OfferedTools(
                [*(tool for tool in functions if tool.name in choice.function_tools), *outputs], must_call
            )
        case list():
            tools = [tool for tool in (*functions, *outputs) if tool.name in choice]
            require(bool(tools), "tool_choice", f"is {choice}, none of which is available", "name tools of the agent")
            return OfferedTools(tools, True)
        case _:
            raise ConfigError("tool_choice", f"is {choice!r}", "use auto, none, required or names of tools")


def tool_schema(tool: ToolDefinition) -> dict[str, JsonValue]:
    """Convert a tool to the form of chat templates."""
    function: dict[str, JsonValue] = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.parameters_json_schema,
    }
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def read_turns(messages: Sequence[ModelMessage], params: ModelRequestParameters) -> list[Message]:
    """Convert a history to turns, with the request's instructions after its leading system prompts.

    Raises ConfigError for content the model cannot read.
    """
    turns = [turn for message in messages for turn in _turns(message)]
    if instructions := _instructions(messages, params):
        leading = next((place for place, turn in enumerate(turns) if turn.role != "system"), len(turns))
        turns.insert(leading, Message(role="system", content=instructions))
    return turns


def _instructions(messages: Sequence[ModelMessage], params: ModelRequestParameters) -> str:
    """Return the agent's instructions for this request, apart from the history's system prompts."""
    if params.instruction_parts is not None:
        return "\n\n".join(part.content for part in params.instruction_parts)
    requests = (message for message in reversed(messages) if isinstance(message, ModelRequest))
    return next((request.instructions for request in requests if request.instructions), "")


def _turns(message: ModelMessage) -> Iterator[Message]:
    if isinstance(message, ModelResponse):
        yield _assistant(message)
        return
    for part in message.parts:
        match part:
            case SystemPromptPart():
                yield Message(role="system", content=part.content)
            case UserPromptPart():
                yield Message(role="user", content=_text(part))
            case ToolReturnPart():
                content = part.model_response_str()
                yield Message(role="tool", content=content, tool_call_id=part.tool_call_id, name=part.tool_name)
            case _:
                kind = type(part).__name__
                raise ConfigError("messages", f"contain a {kind}", "pass them through model.prepare_messages first")


def _assistant(message: ModelResponse) -> Message:
    """Convert an earlier reply, without its thinking, as chat templates do."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    for part in message.parts:
        match part:
            case TextPart():
                texts.append(part.content)
            case ToolCallPart():
                calls.append(ToolCall(id=part.tool_call_id, name=part.tool_name, arguments=part.args_as_json_str()))
            case ThinkingPart():
                pass
            case _:
                raise ConfigError(
                    "messages", f"contain a {type(part).__name__}", "remove it: the model reads only text"
                )
    return Message(role="assistant", content="\n\n".join(texts), tool_calls=tuple(calls))


def _text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    texts = []
    for item in part.content:
        if not isinstance(item, str | TextContent):
            raise ConfigError("messages", f"contain a {type(item).__name__}", "send text: the model reads only text")
        texts.append(item if isinstance(item, str) else item.content)
    return "\n".join(texts)


def response_parts(turn: Reply) -> list[ModelResponsePart]:
    """Convert a reply to thinking, text and tool call parts."""
    parts: list[ModelResponsePart] = []
    if turn.reasoning:
        parts.append(ThinkingPart(turn.reasoning))
    if turn.content:
        parts.append(TextPart(turn.content))
    parts.extend(ToolCallPart(call.name, call.arguments, tool_call_id=call.id) for call in turn.tool_calls)
    return parts


def finish_reason(turn: Reply) -> FinishReason:
    """Return the reason the reply ended."""
    if turn.tool_calls:
        return "tool_call"
    return "length" if turn.path is not None and turn.path.stop_reason is StopReason.LENGTH else "stop"


def request_usage(turn: Reply) -> RequestUsage:
    """Return the usage of all paths: `input_tokens` of every request, `cache_read_tokens` the cached ones."""
    spent = turn.result.usage
    return RequestUsage(
        input_tokens=spent.prompt,
        cache_read_tokens=spent.reused,
        output_tokens=spent.sampled,
        details={name: getattr(spent, name) for name in ("prefilled", "discarded", "drafted", "accepted", "scored")},
    )
