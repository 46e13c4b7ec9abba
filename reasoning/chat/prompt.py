"""Chats as prompts, including chats that a harness carries as one text."""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from branchwise.core.errors import require
from branchwise.core.messages import Message, Messages
from branchwise.core.question import as_prompt


def tool_prompt(turns: Sequence[Message], tools: Sequence[dict[str, JsonValue]] = ()) -> Messages:
    """Return the prompt of a chat with tools. Tool results get the name of the tool that their call names.

    Raises ConfigError if the chat ends with tool calls.
    """
    require(
        not (turns and turns[-1].role == "assistant" and turns[-1].tool_calls),
        "messages",
        "end with tool calls",
        "add the results of the tools",
    )
    names = {call.id: call.name for turn in turns for call in turn.tool_calls}
    named = [
        turn.model_copy(update={"name": names.get(turn.tool_call_id or "")})
        if turn.role == "tool" and turn.name is None
        else turn
        for turn in turns
    ]
    return as_prompt(named).model_copy(update={"tools": tuple(tools)})


class PackedChat(str):
    """A chat as JSON text, for harnesses that handle every prompt as a string and may pickle it."""

    __slots__ = ()


def pack(turns: Sequence[Mapping[str, str]]) -> PackedChat:
    """Return the turns, each with a role and content, as text that `unpack` recognizes."""
    return PackedChat(json.dumps(turns, ensure_ascii=False))


def unpack(context: str) -> Messages:
    """Return the prompt of a packed chat; any other text is one user turn."""
    if not isinstance(context, PackedChat):
        return Messages(turns=(Message(role="user", content=context),))
    return as_prompt([Message.model_validate(turn) for turn in json.loads(context)])
