"""Special tokens in content: what spells one is tokenized as its letters.

A separator that appears nowhere in the prompt is inserted into every spelling. The rendered prompt is split there, so
no piece contains a special token. Prompts of local tokenizers and of remote ones are escaped alike.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from pydantic import JsonValue

from branchwise.core.messages import Message, Messages, ToolCall

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase

THINK_TAGS = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]"})
"""Legitimate in an assistant's turns and in the prefix of an answer, where chat templates look for them."""


class SpecialTokens:
    """Patterns that find a tokenizer's special tokens; None matches nothing."""

    def __init__(self, tokens: Collection[str]) -> None:
        self.everywhere = _any_of(tokens)
        self.in_answers = _any_of([token for token in tokens if token not in THINK_TAGS])

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "SpecialTokens":
        """Return the special tokens of a local tokenizer."""
        return cls([token.content for token in tokenizer.added_tokens_decoder.values() if _is_special(token)])


class Escaper:
    """Escapes one prompt: inserts a separator into every special token that its content spells."""

    def __init__(self, tokens: SpecialTokens, messages: Messages) -> None:
        self._tokens = tokens
        # Arguments are JSON text, whose escapes may hide the separator.
        arguments = [parsed_arguments(call) for turn in messages.turns for call in turn.tool_calls]
        content = "".join(texts([messages.model_dump(mode="json"), arguments]))
        self.separator = "\ue000"
        while self.separator in content:
            self.separator += "\ue001"

    def split(self, text: str) -> list[str]:
        """Return the pieces of a rendered prompt, to be tokenized one by one."""
        return text.split(self.separator)

    def text(self, text: str, *, answer: bool = False) -> str:
        """Return an escaped text; `answer` leaves think tags as they are."""
        pattern = self._tokens.in_answers if answer else self._tokens.everywhere
        start = 0
        while pattern is not None and (found := pattern.search(text, start)):
            middle = found.start() + 1
            text = text[:middle] + self.separator + text[middle:]
            start = middle + len(self.separator)
        return text

    def value(self, value: JsonValue) -> JsonValue:
        """Return a value with every text in it escaped, keys included."""
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(item) for item in value]
            case dict():
                return {self.text(key): self.value(item) for key, item in value.items()}
            case _:
                return value

    def arguments(self, call: ToolCall) -> JsonValue:
        """Return the escaped arguments of a tool call: an object, or text if they are not one."""
        escaped = self.value(parsed_arguments(call))
        return escaped if isinstance(escaped, dict) else self.text(call.arguments)

    def messages(self, messages: Messages) -> Messages:
        """Return escaped messages. Arguments of tool calls become the JSON text that a template prints."""
        tools = tuple({self.text(key): self.value(item) for key, item in tool.items()} for tool in messages.tools)
        turns = tuple(map(self._turn, messages.turns))
        prefix = self.text(messages.prefix, answer=True)
        return messages.model_copy(update={"turns": turns, "tools": tools, "prefix": prefix})

    def _turn(self, turn: Message) -> Message:
        calls = tuple(
            ToolCall(id=self.text(call.id), name=self.text(call.name), arguments=self.text(printed_arguments(call)))
            for call in turn.tool_calls
        )
        return turn.model_copy(
            update={
                "content": self.text(turn.content, answer=turn.role == "assistant"),
                "tool_calls": calls,
                "name": None if turn.name is None else self.text(turn.name),
                "tool_call_id": None if turn.tool_call_id is None else self.text(turn.tool_call_id),
            }
        )


def parsed_arguments(call: ToolCall) -> JsonValue:
    """Return the arguments of a tool call, or None if they are not JSON."""
    try:
        parsed: JsonValue = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None
    return parsed


def printed_arguments(call: ToolCall) -> str:
    """Return the arguments of a tool call as a template prints them: JSON without escapes that hide a special token."""
    try:
        return json.dumps(json.loads(call.arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return call.arguments


def texts(value: JsonValue) -> Iterator[str]:
    """Yield every text in a value, keys included."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from texts(item)


def _is_special(token: "AddedToken") -> bool:
    """Return whether an added token has a meaning of its own; added words and runs of blanks have not."""
    return token.special or not (token.content.isspace() or token.content.isalnum())


def _any_of(tokens: Collection[str]) -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
