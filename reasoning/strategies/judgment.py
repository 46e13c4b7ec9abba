"""Asking the model what it thinks of its own reasoning: one scored word after a question about it."""

import math
from collections.abc import Mapping, Sequence

from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path
from branchwise.prompts.library import TASKS
from branchwise.strategies.actions import Root

VERDICTS: Mapping[str, float] = {"True": 1.0, "False": 0.0}
"""P(True): Kadavath et al. 2022, arXiv 2207.05221."""
IS_CORRECT = "Is the answer above correct? Reply with one word, True or False."


def judgment(path: Path, question: int, *, ask: str = IS_CORRECT, tag: int = 0) -> Root:
    """A prompt that asks what to think of a path, in the conversation it came from."""
    asked = path.root.messages
    assert asked is not None
    said = Message(role="assistant", content=path.answer_text)
    turns = (*asked.turns, said, Message(role="user", content=ask))
    return Root(Messages(turns=turns, tools=asked.tools, thinking=False), question, TASKS["text"], tag)


def expected(logprobs: Sequence[Sequence[float]], worth: Sequence[float]) -> float | None:
    """The mean worth of verdicts under their probabilities; `logprobs` [verdicts][tokens], nats.

    None where none of them has a probability above 0.
    """
    shares = [math.exp(sum(row)) for row in logprobs]
    total = sum(shares)
    return sum(share * one for share, one in zip(shares, worth, strict=True)) / total if total else None
