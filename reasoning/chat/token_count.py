"""Token counts of texts and chats: exact where the backend has a tokenizer, otherwise an estimate."""

from branchwise.backends.base import Backend
from branchwise.core.errors import ConfigError
from branchwise.core.messages import Message, Messages

BYTES_PER_TOKEN = 4
"""Of UTF-8, in the estimate: English has about four characters per token, other scripts fewer, of more bytes."""
TOKENS_PER_MESSAGE = 4
"""Estimate of the tokens that a chat template puts around a message."""


async def count_text(backend: Backend, text: str) -> int:
    """Return the number of tokens of a text alone."""
    tokens = await backend.tokenize(text) if text else ()
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) if tokens is None else len(tokens)


async def count_prompt(backend: Backend, messages: Messages) -> int:
    """Return the number of tokens of a prompt, with tools and what the chat template adds; 0 without messages.

    The messages may be any part of a chat, in any order: where a template refuses it, or the backend has no tokenizer,
    the count is the sum over messages and tools.
    """
    if not messages.turns:
        return 0
    try:
        tokens = await backend.tokenize(messages)
    except ConfigError:
        tokens = None
    if tokens is not None:
        return len(tokens)
    texts = [_text(turn) for turn in messages.turns] + [str(tool) for tool in messages.tools]
    counts = [await count_text(backend, text) for text in texts]
    return sum(counts) + TOKENS_PER_MESSAGE * len(messages.turns)


def _text(turn: Message) -> str:
    return turn.content + "".join(call.name + call.arguments for call in turn.tool_calls)
