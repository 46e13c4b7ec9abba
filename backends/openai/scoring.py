"""Log-probabilities of given tokens, over completions that show those of their prompt."""

from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.openai.dialect import Json
from branchwise.backends.openai.transport import Transport
from branchwise.backends.openai.wire import Completion


class Row(NamedTuple):
    """One continuation's log-probabilities, nats, and how many tokens before it were reused."""

    logprobs: tuple[float, ...]
    reused: int


async def score_one(
    transport: Transport, model: str, given: Sequence[int], tokens: Sequence[int], affinity: bytes
) -> Row | None:
    """The log-probabilities of `tokens` after `given`; None where the server does not show them.

    The server draws a token behind them, which nobody asked for and no ledger counts. Raises ServerError.
    """
    body: Json = {
        "model": model,
        "prompt": [*given, *tokens],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    answer = await transport.ask("/v1/completions", body, Completion, affinity)
    found = answer.choices[0].prompt_logprobs if answer.choices else None
    if found is None or len(found) != len(given) + len(tokens):
        return None
    logprobs = []
    for token, row in zip(tokens, found[len(given) :], strict=True):
        if row is None or token not in row:
            return None
        logprobs.append(row[token].logprob)
    cached = (answer.usage.cached if answer.usage is not None else None) or 0
    return Row(tuple(logprobs), min(cached, len(given)))
