"""Input of a reward model: the conversation as tokens, and the positions whose scores count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from branchwise.backends.tokenization.chat_template import ChatTemplate
from branchwise.backends.tokenization.special_tokens import Escaper, SpecialTokens
from branchwise.core.errors import BackendError, ConfigError
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
        self._template = ChatTemplate(tokenizer)
        self._special_tokens = SpecialTokens.of(tokenizer)

    def read(self, path: Path) -> Reading:
        """Return the reading of a path. Raises BackendError if the model cannot take it."""
        messages, text = path.root.messages, path.answer_text
        if messages is None:
            raise _unsupported("the path has no conversation", "use a backend whose prompts keep their messages")
        if self._tokenizer.chat_template:
            whole, escaper = self._render(messages, text)
            tokenized = self._tokenize_pieces(escaper.split(whole))
            whole = whole.replace(escaper.separator, "")
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

    def _render(self, messages: Messages, text: str) -> tuple[str, Escaper]:
        """Return the conversation in the model's template, its content escaped, and the escaper."""
        reply = Message(role="assistant", content=text)
        escaper = Escaper(self._special_tokens, messages.model_copy(update={"turns": (*messages.turns, reply)}))
        tools = messages.tools if "tools" in str(self._tokenizer.chat_template) else ()
        conversation = messages.model_copy(update={"tools": tools, "thinking": None})
        try:
            return self._template.render(conversation, escaper, text), escaper
        except ConfigError as error:
            raise _unsupported(error.problem, "use roles it supports, or another model") from error

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


def _unsupported(problem: str, hint: str) -> BackendError:
    return BackendError(f"reward model: {problem}", retryable=False, hint=hint)
