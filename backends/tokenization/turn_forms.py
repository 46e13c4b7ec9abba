"""Forms of a conversation that chat templates accept: which turns it has, and how their content is passed."""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from branchwise.backends.tokenization.special_tokens import Escaper
from branchwise.core.messages import Message, Role

Turns = tuple[Message, ...]


class Form(NamedTuple):
    """The form in which messages are passed to the template."""

    turns: Turns
    parts: frozenset[Role] = frozenset()
    """Roles whose content is a list of parts instead of text."""
    text_arguments: bool = False
    """Arguments of tool calls are text instead of objects."""


def turn_forms(turns: Turns) -> Iterator[Turns]:
    """Yield the turns as they are, then in forms that more templates accept, the most faithful first."""
    folded = _without_system(turns)
    forms = (turns, folded, _alternating(turns), _alternating(folded))
    yield from dict.fromkeys(forms)


def _without_system(turns: Turns) -> Turns:
    """Return turns in which the content of system turns opens the next user turn."""
    waiting: list[str] = []
    kept: list[Message] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user":
            kept.append(_joined(turn, [*waiting, turn.content]))
            waiting = []
        else:
            kept.append(turn)
    return (*kept, *(Message(role="user", content=text) for text in waiting))


def _alternating(turns: Turns) -> Turns:
    """Return turns in which neighbours of one role are joined, except tool results and turns with tool calls."""
    kept: list[Message] = []
    for turn in turns:
        last = kept[-1] if kept else None
        if last is None or last.role != turn.role or turn.role == "tool" or last.tool_calls or turn.tool_calls:
            kept.append(turn)
        else:
            kept[-1] = _joined(last, [last.content, turn.content])
    return tuple(kept)


def _joined(turn: Message, texts: Sequence[str]) -> Message:
    return turn.model_copy(update={"content": "\n\n".join(texts)})


def prints_parts(content: str, text: str) -> bool:
    """Return whether a text shows the Python or JSON form of content in parts."""
    (part,) = _as_parts(content)
    return any(dump in text for dump in (repr(part), json.dumps(part, ensure_ascii=False), json.dumps(part)))


def content_of(turn: Message, escaper: Escaper) -> str:
    """Return the escaped content of a turn."""
    return escaper.text(turn.content, answer=turn.role == "assistant")


def _as_parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def template_turn(message: Message, escaper: Escaper, form: Form) -> dict[str, object]:
    """Return an escaped message in the form that chat templates read."""
    content = content_of(message, escaper)
    turn: dict[str, object] = {
        "role": message.role,
        "content": _as_parts(content) if message.role in form.parts else content,
    }
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": escaper.text(call.id),
                "type": "function",
                "function": {
                    "name": escaper.text(call.name),
                    "arguments": escaper.text(call.arguments) if form.text_arguments else escaper.arguments(call),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = escaper.text(message.tool_call_id)
    if message.name is not None:
        turn["name"] = escaper.text(message.name)
    return turn
