"""Self-evaluation: a prompt that asks the model about its own path, and a value from the scored one-word replies.

Used by the weighted vote and by the values of tree search.
"""

import math
from collections.abc import Mapping, Sequence

from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path
from branchwise.prompts.library import TASKS
from branchwise.strategies.actions import Root

VERDICTS: Mapping[str, float] = {"True": 1.0, "False": 0.0}
"""Replies and their values for P(True): Kadavath et al. 2022, arXiv 2207.05221."""
IS_CORRECT = "Is the answer above correct? Reply with one word, True or False."


def judge_prompt(path: Path, question: int, *, ask: str = IS_CORRECT, tag: int = 0) -> Root:
    """Return a request for the path's conversation, the path as the assistant's turn, and `ask` as the user's turn."""
    conversation = path.root.messages
    assert conversation is not None
    reply = Message(role="assistant", content=path.answer_text)
    turns = (*conversation.turns, reply, Message(role="user", content=ask))
    return Root(Messages(turns=turns, tools=conversation.tools, thinking=False), question, TASKS["text"], tag)


def expected_value(logprobs: Sequence[Sequence[float]], values: Sequence[float]) -> float | None:
    """Return the mean of the replies' `values` weighted by their probabilities, or None if all probabilities are 0.

    `logprobs` is [replies][tokens], in nats.
    """
    probabilities = [math.exp(sum(row)) for row in logprobs]
    total = sum(probabilities)
    if not total:
        return None
    return sum(probability * value for probability, value in zip(probabilities, values, strict=True)) / total
