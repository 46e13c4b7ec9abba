"""Content that stays content: what spells a control token is tokenized as the letters it is written with."""

import json
import re
from collections.abc import Sequence

from pydantic import JsonValue
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from branchwise.core.messages import Messages, ToolCall

# Marks of thoughts stand in earlier answers and in an answer's beginning by right; templates look for them there.
_THOUGHTS = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]"})


class Controls:
    """The control tokens of a tokenizer, as patterns that find them (None: there are none)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        found = [token.content for token in tokenizer.added_tokens_decoder.values() if _is_control(token)]
        self.everywhere = _any_of(found)
        self.in_answers = _any_of([token for token in found if token not in _THOUGHTS])


class Guard:
    """Puts a seam, a text that appears nowhere in the prompt, inside everything in the messages that the
    tokenizer would take for a control token. The template's text is cut there before it is tokenized."""

    def __init__(self, controls: Controls, messages: Messages) -> None:
        self._controls = controls
        # Arguments are JSON text: only read are their escapes the characters they stand for.
        said = json.dumps(
            [messages.model_dump(), [_read(call) for turn in messages.turns for call in turn.tool_calls]],
            ensure_ascii=False,
        )
        self._seam = "\ue000"
        while self._seam in said:
            self._seam += "\ue001"

    def cut(self, text: str) -> list[str]:
        """The pieces of a prompt; what a piece ends with and the next begins with are never one token."""
        return text.split(self._seam)

    def text(self, text: str, *, answer: bool = False) -> str:
        """A guarded text; in an `answer`, marks of thoughts are what they say."""
        controls = self._controls.in_answers if answer else self._controls.everywhere
        start = 0
        while controls is not None and (found := controls.search(text, start)):
            middle = found.start() + 1
            text = text[:middle] + self._seam + text[middle:]
            start = middle + len(self._seam)
        return text

    def value(self, value: JsonValue) -> JsonValue:
        """A value with every text in it guarded, its keys too."""
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
        """The arguments of a tool call as templates take them: an object, text where they are none."""
        guarded = self.value(_read(call))
        return guarded if isinstance(guarded, dict) else self.text(call.arguments)


def _is_control(token: AddedToken) -> bool:
    """Whether an added token means more than its letters: runs of blanks and words that were added do not."""
    return token.special or not (token.content.isspace() or token.content.isalnum())


def _any_of(tokens: Sequence[str]) -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _read(call: ToolCall) -> JsonValue:
    """What the arguments of a call say; None where they are no JSON."""
    try:
        read: JsonValue = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None
    return read
