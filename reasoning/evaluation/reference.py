"""Reference answers as data sets write them: texts, numbers, booleans, and worked solutions that end in the answer."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from branchwise.answers.extraction import boxed
from branchwise.answers.numbers import read_number
from branchwise.evaluation.row import Source

_BOOLEANS = {"true", "false"}
_VERDICTS = ("yes_no", "boolean")
_MARK = "####"  # GSM8K separates the worked solution from the answer with it
_NOTE = re.compile(r"<<[^<>\n]*>>")  # GSM8K's notes for a calculator
_NUMBERS = 0.9
"""Share of numbers that makes the others errors to report, rather than texts."""
_NO_SOLUTIONS = ("text", "reference", "tests", "expression24")
"""Answer types whose answers are kept whole if the row states the type."""


class Reference(NamedTuple):
    """A reference answer, and the worked solution before it, or ""."""

    text: str
    solution: str = ""
    is_boxed: bool = False
    """The answer was taken from a box in the solution."""


def read_reference(value: object, source: Source, stated_type: str = "") -> Reference:
    """Return the answer that a field holds; `stated_type` is the answer type that the row states, or "".

    The answer of a worked solution follows `####` (GSM8K) or is in its last box (MATH). Raises ConfigError for a value
    of another kind.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return Reference("")
    if isinstance(value, bool):
        is_verdict = not stated_type or stated_type in _VERDICTS
        return Reference(("yes" if value else "no") if is_verdict else str(value))
    if not isinstance(value, str | int | float):
        raise source.error("answer", f"got {type(value).__name__}, must be a text, a number or a boolean")
    text = str(value)
    if stated_type in _NO_SOLUTIONS:
        return Reference(text)
    solution, mark, after = text.rpartition(_MARK)
    if mark:
        return Reference(after.strip(), _NOTE.sub("", solution).strip())
    in_box = None if stated_type else boxed(text)
    return Reference(text) if in_box is None else Reference(in_box, text, is_boxed=True)


def detect_answer_type(references: Sequence[Reference]) -> str:
    """Return the answer type that fits the references: number if nearly all are numbers, others if all of them fit."""
    words = {reference.text.strip().casefold() for reference in references}
    if words <= _BOOLEANS:
        return "boolean"
    if words <= _BOOLEANS | {"yes", "no"}:
        return "yes_no"
    numbers = sum(read_number(reference.text) is not None for reference in references)
    if numbers >= _NUMBERS * len(references):
        return "number"
    return "latex" if all(reference.is_boxed for reference in references) else "text"
