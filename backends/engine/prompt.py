"""From messages to tokens: the chat template, and user content that stays content."""

import re
from collections.abc import Sequence

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from branchwise.errors import ConfigError
from branchwise.messages import Message, Messages

_THINKING_SWITCHES = ("enable_thinking", "thinking")  # what templates call it


class Prompter:
    """Tokenizes prompts for one model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
        controls = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls))) if controls else None

    def tokens(self, messages: Messages) -> tuple[int, ...]:
        """The tokens of a prompt, as the model's own template writes it.

        Content that spells a control token (`<|im_end|>`) is tokenized as the letters it is written
        with. Raises ConfigError for prompts the template refuses.
        """
        seam = self._seam(messages)
        guarded = messages.model_copy(update={"turns": tuple(self._guard(turn, seam) for turn in messages.turns)})
        has_template = self._template is not None
        text = (self._render(guarded) if has_template else _plain(guarded)) + messages.prefix
        pieces = text.split(seam)
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            ids.extend(self.encode(piece, special=i == 0 and not has_template))
        return tuple(ids)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of a text; `special` adds what the tokenizer puts at the start of every text."""
        return list(self.tokenizer.encode(text, add_special_tokens=special))

    def _render(self, messages: Messages) -> str:
        switches = {}
        if messages.thinking is not None:
            switches = {name: messages.thinking for name in _THINKING_SWITCHES if name in (self._template or "")}
            if not switches:
                raise ConfigError("thinking", "this model's chat template has no thinking switch", "leave it out")
        try:
            text = self.tokenizer.apply_chat_template(
                [_turn(message) for message in messages.turns],  # type: ignore[arg-type]  # tool calls are no text
                tools=list(messages.tools) or None,
                add_generation_prompt=True,
                tokenize=False,
                **switches,  # type: ignore[arg-type]  # the template's own variables
            )
        except TemplateError as error:
            raise ConfigError(
                "question", f"the model's chat template refuses it ({error})", "use roles and an order it knows"
            ) from error
        return str(text)

    def _guard(self, turn: Message, seam: str) -> Message:
        """Put a seam inside everything in the content that the tokenizer would take for a control token."""
        if self._controls is None:
            return turn
        content, start = turn.content, 0
        while found := self._controls.search(content, start):
            middle = found.start() + 1
            content = content[:middle] + seam + content[middle:]
            start = middle + len(seam)
        return turn.model_copy(update={"content": content})

    def _seam(self, messages: Messages) -> str:
        """A text that appears nowhere in the prompt."""
        seam = "\ue000"
        while any(seam in turn.content for turn in messages.turns):
            seam += "\ue001"
        return seam


def _turn(message: Message) -> dict[str, object]:
    """A message as chat templates take it."""
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _plain(messages: Messages) -> str:
    """A prompt for models without a chat template: the turns' contents, one after another."""
    parts: Sequence[str] = [turn.content for turn in messages.turns if turn.content]
    return "\n\n".join(parts) + "\n"
