"""Log-probabilities of given tokens, from completions that return those of their prompt."""

from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.openai.endpoint import Json
from branchwise.backends.openai.responses import Completion
from branchwise.backends.openai.transport import Transport


class ScoredRow(NamedTuple):
    """Log-probabilities of one continuation in nats, and the prompt tokens before it that were reused."""

    logprobs: tuple[float, ...]
    reused: int


async def score_tokens(
    transport: Transport, model: str, prompt: Sequence[int], tokens: Sequence[int], affinity: bytes
) -> ScoredRow | None:
    """Return the log-probabilities of `tokens` after `prompt`, or None if the server does not report them.

    The API makes the server sample one token after them, which is not counted as usage. Raises ServerError.
    """
    body: Json = {
        "model": model,
        "prompt": [*prompt, *tokens],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    response = await transport.request("/v1/completions", body, Completion, affinity)
    found = response.choices[0].prompt_logprobs if response.choices else None
    if found is None or len(found) != len(prompt) + len(tokens):
        return None
    logprobs = []
    for token, row in zip(tokens, found[len(prompt) :], strict=True):
        if row is None or token not in row:
            return None
        logprobs.append(row[token].logprob)
    cached = (response.usage.cached if response.usage is not None else None) or 0
    return ScoredRow(tuple(logprobs), min(cached, len(prompt)))
