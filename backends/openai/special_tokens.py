"""Find what may be a special token of a remote tokenizer. `backends.tokenization` escapes it."""

import re

from branchwise.backends.tokenization.special_tokens import printed_arguments, texts
from branchwise.core.messages import Messages, ToolCall

_CANDIDATE = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{1,30}\]")  # such as <|im_end|>, </s>, [INST]


def special_token_candidates(messages: Messages) -> set[str]:
    """Return every text in a prompt's content that is written like a special token."""
    turns = tuple(
        turn.model_copy(update={"tool_calls": tuple(map(_with_printed_arguments, turn.tool_calls))})
        for turn in messages.turns
    )
    content = messages.model_copy(update={"turns": turns}).model_dump(mode="json")
    return {candidate for text in texts(content) for candidate in _CANDIDATE.findall(text)}


def _with_printed_arguments(call: ToolCall) -> ToolCall:
    return call.model_copy(update={"arguments": printed_arguments(call)})
