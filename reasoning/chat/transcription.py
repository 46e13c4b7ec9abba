"""Chats as prompts, also where a harness takes every prompt for one text."""

import json
from collections.abc import Mapping, Sequence

from branchwise.core.messages import Message, Messages


class ChatText(str):
    """A chat as JSON, on its way through a harness. Prompts that a harness keeps in files come back as this, too."""

    __slots__ = ()


def pack(turns: Sequence[Mapping[str, str]]) -> ChatText:
    """A chat, each turn with its role and content, as text that `unpack` knows again."""
    return ChatText(json.dumps(turns, ensure_ascii=False))


def unpack(context: str) -> Messages:
    """A packed chat as a prompt; any other text is one user turn."""
    if not isinstance(context, ChatText):
        return Messages(turns=(Message(role="user", content=context),))
    return as_prompt([Message.model_validate(turn) for turn in json.loads(context)])


def as_prompt(turns: Sequence[Message]) -> Messages:
    """A chat as a prompt: where the assistant has the last word, that is how its answer begins."""
    if turns and turns[-1].role == "assistant":
        return Messages(turns=tuple(turns[:-1]), prefix=turns[-1].content)
    return Messages(turns=tuple(turns))
