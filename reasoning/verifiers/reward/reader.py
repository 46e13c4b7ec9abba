"""Input of a reward model: the conversation as tokens, and the positions whose scores count."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from branchwise.core.errors import BackendError
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path
from branchwise.prompts.steps import step_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reading(NamedTuple):
    """Tokens of a conversation and the scored positions."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    """Indexes of the scored tokens, in order."""


class _Tokenized(NamedTuple):
    tokens: list[int]
    spans: list[tuple[int, int]]  # character span of each token


class RewardReader:
    """Converts paths to readings. Text that spells a special token is tokenized as plain text."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, process: bool, pad: int | None, context: int) -> None:
        """With `process`, the ends of steps are scored; otherwise the last token that is not `pad`, as in transformers.

        `context` is the maximum number of tokens.
        """
        self._tokenizer = tokenizer
        self._process, self._pad, self._context = process, pad, context
        added = tokenizer.added_tokens_decoder.values()
        self._special_tokens = sorted((token.content for token in added if token.special), key=len, reverse=True)

    def read(self, path: Path) -> Reading:
        """Return the reading of a path. Raises BackendError if the model cannot take it."""
        messages, text = path.root.messages, path.answer_text
        if messages is None:
            raise _unsupported("the path has no conversation", "use a backend whose prompts keep their messages")
        if self._tokenizer.chat_template:
            whole, separator = self._render(messages, text)
            tokenized = self._tokenize_pieces(whole.split(separator))
            whole = whole.replace(separator, "")
        else:
            whole = "\n\n".join(turn.content for turn in messages.turns if turn.content) + f"\n{text}"
            tokenized = self._tokenize_plain(whole)
        if len(tokenized.tokens) > self._context:
            problem = f"the path is {len(tokenized.tokens)} tokens long, the model takes at most {self._context}"
            raise _unsupported(problem, "use one with a longer context, or a lower --max-tokens")
        return Reading(tuple(tokenized.tokens), self._places(path, text, whole, tokenized))

    def _places(self, path: Path, text: str, whole: str, tokenized: _Tokenized) -> tuple[int, ...]:
        if not self._process:
            real = (i for i in range(len(tokenized.tokens) - 1, -1, -1) if tokenized.tokens[i] != self._pad)
            return (next(real, 0),)
        # Templates may trim their input.
        start, found = next(
            ((whole.rfind(form) - text.find(form), form) for form in (text, text.strip()) if form in whole), (0, None)
        )
        if found is None:
            raise _unsupported("the chat template changes the path's text", "use a model whose template keeps it")
        first, last = start + text.find(found), start + text.find(found) + len(found)
        ends = path.token_ends()
        steps = [ends[count - 1] for count in step_ends(path)] if ends else [len(text)]
        lasts = (min(max(start + end, first), last) - 1 for end in steps or [len(text)])
        return tuple(dict.fromkeys(_covering(tokenized.spans, char) for char in lasts))

    def _render(self, messages: Messages, text: str) -> tuple[str, str]:
        """Return the conversation in the model's template, and the separator inserted into text that spells special
        tokens."""
        separator = "\ue000"
        content = messages.model_dump_json() + text
        while separator in content:
            separator += "\ue001"
        refusal: Exception | None = None
        for turns in (messages.turns, _without_system(messages.turns)):
            conversation = [*turns, Message(role="assistant", content=text)]
            try:
                rendered = self._tokenizer.apply_chat_template(
                    [self._turn(turn, separator) for turn in conversation],  # type: ignore[arg-type]  # tool calls are not text
                    tools=[dict(tool) for tool in messages.tools] or None,
                    tokenize=False,
                )
            except Exception as error:  # a template may raise anything
                refusal = refusal or error
            else:
                return str(rendered), separator
        reason = " ".join(str(refusal).split())[:300]
        raise _unsupported(
            f"its chat template refuses the conversation ({reason})", "use roles it supports"
        ) from refusal

    def _turn(self, turn: Message, separator: str) -> dict[str, object]:
        message: dict[str, object] = {"role": turn.role, "content": self._escaped(turn.content, separator)}
        if turn.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _parse_arguments(call.arguments)},
                }
                for call in turn.tool_calls
            ]
        if turn.tool_call_id is not None:
            message["tool_call_id"] = turn.tool_call_id
        return message

    def _escaped(self, text: str, separator: str) -> str:
        for special in self._special_tokens:
            text = text.replace(special, special[0] + separator + special[1:])
        return text

    def _tokenize_pieces(self, pieces: Sequence[str]) -> _Tokenized:
        """Tokenize the pieces of a rendered text separately, so that only the template's special tokens are special."""
        tokenized, before = _Tokenized([], []), 0
        for piece in pieces:
            encoded = self._tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            tokenized.tokens.extend(encoded["input_ids"])
            tokenized.spans.extend((before + start, before + end) for start, end in encoded["offset_mapping"])
            before += len(piece)
        return tokenized

    def _tokenize_plain(self, text: str) -> _Tokenized:
        encoded = self._tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
        return _Tokenized(list(encoded["input_ids"]), list(encoded["offset_mapping"]))


def _covering(spans: Sequence[tuple[int, int]], char: int) -> int:
    """Return the last token that starts at or before a character."""
    return max((i for i, (start, end) in enumerate(spans) if start < end and start <= char), default=0)


def _without_system(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Merge system turns into the next user turn, for templates without a system role."""
    return tuple(_folded(turns))


def _folded(turns: Sequence[Message]) -> Iterator[Message]:
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user" and waiting:
            yield turn.model_copy(update={"content": "\n\n".join([*waiting, turn.content])})
            waiting = []
        else:
            yield turn


def _parse_arguments(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _unsupported(problem: str, hint: str) -> BackendError:
    return BackendError(f"reward model: {problem}", retryable=False, hint=hint)
