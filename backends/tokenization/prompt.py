"""From messages to tokens: the chat template, and user content that stays content."""

from collections.abc import Mapping

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from branchwise.backends.tokenization.chat_template import ChatTemplate
from branchwise.backends.tokenization.special_tokens import Controls, Guard
from branchwise.core.errors import require
from branchwise.core.messages import Messages

# Stands before a text that goes on another one; no vocabulary has a token that joins it with what follows.
_ANCHOR = "\ue000"


class Prompter:
    """Tokenizes prompts for one model."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """`chat_template` takes the place of the model's own, `variables` are given to it."""
        self.tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, chat_template, variables)
        self._controls = Controls(tokenizer)
        self._anchor = self._ids(_ANCHOR)
        # SentencePiece tokenizers take the start of a text for the start of a word.
        self._opens_words = self._ids("a") != self._ids(_ANCHOR + "a")[len(self._anchor) :]

    def tokens(self, messages: Messages) -> tuple[int, ...]:
        """The tokens of a prompt, as the model's own template writes it.

        Content that spells a control token (`<|im_end|>`) is tokenized as the letters it is written
        with. Raises ConfigError for prompts the template refuses.
        """
        guard = Guard(self._controls, messages)
        text = self._template.render(messages, guard) if self._template else _plain(messages, guard)
        first, *rest = guard.cut(text + guard.text(messages.prefix, answer=True))
        # A template writes the token a text begins with itself.
        ids = [*([] if self._template else self._opening()), *self._ids(first)]
        for piece in rest:
            ids.extend(self.encode(piece))
        return tuple(ids)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text that goes on another one."""
        if self._opens_words:
            ids, opening = self._ids(_ANCHOR + text), len(self._anchor)
            if ids[:opening] == self._anchor:
                return ids[opening:]
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _opening(self) -> list[int]:
        """What the tokenizer puts at the start of every text, and not what it puts at the end."""
        bare, whole = self._ids("a"), list(self.tokenizer.encode("a"))
        starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[: next(starts, 0)]


def _plain(messages: Messages, guard: Guard) -> str:
    """A prompt for models without a chat template: the turns' contents, one after another."""
    for field, given in (
        ("thinking", messages.thinking is not None),
        ("tools", bool(messages.tools)),
        ("tool_calls", any(turn.tool_calls for turn in messages.turns)),
    ):
        require(not given, field, "this model has no chat template", "leave them out, or use a chat model")
    parts = [guard.text(turn.content, answer=turn.role == "assistant") for turn in messages.turns if turn.content]
    return "\n\n".join(parts) + "\n"
