"""Prompt encoder: the tokens of messages, with the chat template's special tokens and none from the content."""

from collections.abc import Mapping

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from branchwise.backends.tokenization.chat_template import ChatTemplate
from branchwise.backends.tokenization.special_tokens import Escaper, SpecialTokens
from branchwise.core.errors import require
from branchwise.core.messages import Messages

_ANCHOR = "\ue000"
"""Precedes a text that continues another one; no vocabulary has a token that joins it with what follows."""


class PromptEncoder:
    """Encodes prompts for one model."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """`chat_template` replaces the model's own, `variables` are passed to it.

        Raises ConfigError if the template leaves out a user's question.
        """
        self.tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, chat_template, variables)
        self._special_tokens = SpecialTokens.of(tokenizer)
        if self._template:
            self._template.check(Escaper(self._special_tokens, Messages(turns=())))
        self._anchor = self._ids(_ANCHOR)
        # Twice the longest token, as tokenizers may compose characters first.
        self._most_characters = 2 * max(map(len, tokenizer.get_vocab()), default=1)
        # SentencePiece tokenizers treat the start of a text as the start of a word.
        self._marks_word_starts = self._ids("a") != self._ids(_ANCHOR + "a")[len(self._anchor) :]

    def least_tokens(self, messages: Messages) -> int:
        """Return a lower bound of the prompt's length in tokens, from the lengths of its texts alone.

        It refuses a prompt of megabytes before the template and the tokenizer take seconds for it.
        """
        texts = (messages.prefix, *(turn.content or "" for turn in messages.turns))
        return len(messages.turns) + sum(len(text) for text in texts) // self._most_characters

    def tokens(self, messages: Messages) -> tuple[int, ...]:
        """Return the tokens of a prompt as the chat template writes it.

        Content that spells a special token (`<|im_end|>`) is tokenized as its letters. Raises ConfigError for a prompt
        that the template refuses.
        """
        escaper = Escaper(self._special_tokens, messages)
        text = self._template.render(messages, escaper) if self._template else _without_template(messages, escaper)
        first, *rest = escaper.split(text + escaper.text(messages.prefix, answer=True))
        # A template writes the begin-of-text token itself.
        ids = [*([] if self._template else self._opening()), *self._ids(first)]
        for piece in rest:
            ids.extend(self.encode(piece))
        return tuple(ids)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text that continues another one."""
        if self._marks_word_starts:
            ids, opening = self._ids(_ANCHOR + text), len(self._anchor)
            if ids[:opening] == self._anchor:
                return ids[opening:]
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _opening(self) -> list[int]:
        """Return the tokens that the tokenizer puts before every text."""
        bare, whole = self._ids("a"), list(self.tokenizer.encode("a"))
        starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[: next(starts, 0)]


def _without_template(messages: Messages, escaper: Escaper) -> str:
    """Return the prompt of a model without a chat template: the contents of the turns, one after another."""
    for field, used in (
        ("thinking", messages.thinking is not None),
        ("tools", bool(messages.tools)),
        ("tool_calls", any(turn.tool_calls for turn in messages.turns)),
    ):
        require(not used, field, "this model has no chat template", "leave them out, or use a chat model")
    parts = [escaper.text(turn.content, answer=turn.role == "assistant") for turn in messages.turns if turn.content]
    return "\n\n".join(parts) + "\n"
