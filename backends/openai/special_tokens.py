"""Content that stays content: finding what a server's tokenizer may take for a control token."""

import json
import re
from collections.abc import Container, Iterator

from pydantic import JsonValue

from branchwise.core.messages import Messages, ToolCall

# What models' control tokens look like: <|im_end|>, </s>, [INST].
_MARK = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{1,30}\]")
# Marks of thoughts stand in earlier answers and in an answer's beginning by right.
_THOUGHTS = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]"})


def marks(messages: Messages) -> set[str]:
    """Whatever looks like a control token in a prompt's content."""
    readable = _readable(messages).model_dump(mode="json")
    return {mark for text in _texts(readable) for mark in _MARK.findall(text)}


def seamed(messages: Messages, controls: Container[str], seam: str) -> Messages:
    """The messages with `seam` inside every control token that their content spells."""

    def cut(text: str, *, answer: bool = False) -> str:
        def split(found: re.Match[str]) -> str:
            mark = found.group()
            kept = mark not in controls or (answer and mark in _THOUGHTS)
            return mark if kept else mark[0] + seam + mark[1:]

        return _MARK.sub(split, text)

    def value(given: JsonValue) -> JsonValue:
        match given:
            case str():
                return cut(given)
            case list():
                return [value(item) for item in given]
            case dict():
                return {cut(name): value(item) for name, item in given.items()}
            case _:
                return given

    guarded = _readable(messages)
    return guarded.model_copy(
        update={
            "turns": tuple(
                turn.model_copy(
                    update={
                        "content": cut(turn.content, answer=turn.role == "assistant"),
                        "tool_calls": tuple(
                            ToolCall(id=cut(call.id), name=cut(call.name), arguments=cut(call.arguments))
                            for call in turn.tool_calls
                        ),
                        "name": None if turn.name is None else cut(turn.name),
                        "tool_call_id": None if turn.tool_call_id is None else cut(turn.tool_call_id),
                    }
                )
                for turn in guarded.turns
            ),
            "tools": tuple({cut(name): value(item) for name, item in tool.items()} for tool in guarded.tools),
            "prefix": cut(guarded.prefix, answer=True),
        }
    )


def free_seam(messages: Messages) -> str:
    """A text that appears nowhere in a prompt, and that no vocabulary joins with what follows."""
    said = "".join(_texts(_readable(messages).model_dump(mode="json")))
    seam = "\ue000"
    while seam in said:
        seam += "\ue001"
    return seam


def _readable(messages: Messages) -> Messages:
    """The messages with arguments of calls as the template will read them: JSON can spell a mark with escapes."""
    turns = tuple(
        turn.model_copy(update={"tool_calls": tuple(map(_unescaped, turn.tool_calls))}) if turn.tool_calls else turn
        for turn in messages.turns
    )
    return messages.model_copy(update={"turns": turns})


def _unescaped(call: ToolCall) -> ToolCall:
    try:
        plain = json.dumps(json.loads(call.arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return call
    return call.model_copy(update={"arguments": plain})


def _texts(value: JsonValue) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)
