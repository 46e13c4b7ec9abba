"""Grading of replies and comparison of answers, by answer type, as `branchwise eval` does both."""

import asyncio
from collections.abc import Mapping

from branchwise.answers.equivalence import EQUIVALENCE
from branchwise.core.errors import ConfigError, require
from branchwise.core.validation import suggestion
from branchwise.prompts.library import TASKS
from branchwise.prompts.task import Task

ANSWER_TYPES: Mapping[str, str] = {
    "number": "math",
    "latex": "math",
    "letter": "choice",
    "yes_no": "yes-no",
    "boolean": "true-false",
    "text": "text",
}
"""Name of the task by answer type, for the types that are graded by comparison with a reference."""


def grade(text: str, reference: str, answer_type: str = "number") -> bool:
    """Return True if a reply states an answer that is equivalent to the reference.

    `answer_type` is "number", "latex", "letter", "yes_no", "boolean" or "text". A reply that states no answer is wrong.
    The call may block for a few seconds. Raises ConfigError if a type is unknown or an argument is no text.
    """
    task = _task(answer_type)
    require(isinstance(text, str), "text", f"got {type(text).__name__}", "give the reply as text")
    stated = task.format.extract(task.thinking.answer_part(text))
    return stated is not None and equivalent(stated, reference, answer_type)


def equivalent(first: str, second: str, answer_type: str = "number") -> bool:
    """Return True if two answers are equivalent: "0.5" and "\\\\frac{1}{2}".

    Arguments and errors are those of `grade`, but for the text, which is an answer.
    """
    format_ = _task(answer_type).format
    for name, answer in (("first", first), ("second", second)):
        require(isinstance(answer, str), name, f"got {type(answer).__name__}", "give the answer as text")
    forms = format_.normal(first), format_.normal(second)
    return forms[0] == forms[1] or (all(map(format_.is_symbolic, forms)) and EQUIVALENCE.same(*forms))


async def grade_async(text: str, reference: str, answer_type: str = "number") -> bool:
    """Return the same as `grade` without blocking the event loop."""
    return await asyncio.to_thread(grade, text, reference, answer_type)


async def equivalent_async(first: str, second: str, answer_type: str = "number") -> bool:
    """Return the same as `equivalent` without blocking the event loop."""
    return await asyncio.to_thread(equivalent, first, second, answer_type)


def _task(answer_type: str) -> Task:
    if answer_type not in ANSWER_TYPES:
        fix = suggestion(str(answer_type), ANSWER_TYPES, f"use one of {', '.join(ANSWER_TYPES)}")
        raise ConfigError("answer_type", f"{answer_type!r} is unknown", fix)
    return TASKS[ANSWER_TYPES[answer_type]]
