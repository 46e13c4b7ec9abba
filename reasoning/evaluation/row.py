"""A question with its reference answer, and the checks that a row must pass before a model runs."""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.numbers import read_number
from branchwise.core.errors import ConfigError, require
from branchwise.core.validation import first_field_error
from branchwise.prompts.grading import ANSWER_TYPES
from branchwise.prompts.library import TASKS
from branchwise.prompts.task import Task
from branchwise.verifiers.game24 import read_numbers

TASK_NAMES: Mapping[str, str] = {**ANSWER_TYPES, "reference": "text", "tests": "code", "expression24": "game24"}
"""Name of the task by answer type."""


class _ReferenceCheck(NamedTuple):
    """The condition that a reference must meet, and its name in error messages."""

    is_valid: Callable[[str], bool]
    expected: str


def is_letter(answer: str) -> bool:
    """Return True if an answer is the letter of an option."""
    return re.fullmatch("[A-Z]", Letter().normal(answer)) is not None


_YES_NO = _ReferenceCheck(lambda answer: YesNo().normal(answer) in ("yes", "no"), "yes or no")
_REFERENCE_CHECKS: Mapping[str, _ReferenceCheck] = {
    "number": _ReferenceCheck(lambda answer: read_number(answer) is not None, "a number"),
    "letter": _ReferenceCheck(is_letter, "a letter"),
    "yes_no": _YES_NO,
    "boolean": _YES_NO,
}


class Row(BaseModel):
    """One question with its reference answer. Other fields of a row are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    question: str
    answer: str
    answer_type: str = "number"
    tests: tuple[str, ...] = ()
    """Python code that is run after the program of an answer; the program is correct if none of it raises."""
    entry_point: str = ""
    """Function that is passed to the tests' `check`; "" if the tests call the function themselves."""
    test_imports: tuple[str, ...] = ()
    """Lines that are run before the program."""
    solution: str = Field(default="", exclude=True)
    """Worked solution, shown if the row is an example for others. It is no part of the digest."""

    @property
    def digest(self) -> str:
        """Digest of all fields; rows that are asked or graded differently have different digests."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def task(self) -> Task:
        """The task for the answer type."""
        return TASKS[TASK_NAMES[self.answer_type]]


class Source(NamedTuple):
    """The origin of a row's fields, for error messages."""

    place: str
    """File and line, or data set and row."""
    columns: Mapping[str, str]
    """Name of the column by field of `Row`, where the two differ."""

    def error(self, field: str, problem: str, fix: str = "fix the row or leave it out") -> ConfigError:
        """Return the error for a field of the row."""
        return ConfigError("data", f"{self.place}, {self.columns.get(field, field)}: {problem}", fix)


def parse_row(fields: Mapping[str, object], source: Source) -> Row:
    """Return the row with these fields. Raises ConfigError that names the place and the column."""
    try:
        row = Row.model_validate(fields)
    except ValidationError as error:
        first = first_field_error(error)
        raise source.error(first.field, first.message) from error
    for field in ("id", "question", "answer"):
        try:
            str(fields[field]).encode()
        except UnicodeEncodeError as error:
            raise source.error(field, "has an unpaired surrogate") from error
    if not row.question.strip():
        raise source.error("question", "is empty")
    if row.answer_type not in TASK_NAMES:
        fix = f"use one of {', '.join(TASK_NAMES)}, or set it with --answer-type"
        raise source.error("answer_type", f"{row.answer_type!r} can't be scored", fix)
    if row.answer_type == "tests":
        _check_tests(row, source)
        return _with_tests_shown(row)
    _check_reference(row, source)
    if row.answer_type == "expression24" and not read_numbers(row.question):
        raise source.error("question", "has no numbers to make 24 of", "write them as `4 4 6 8`")
    return row


def _check_reference(row: Row, source: Source) -> None:
    """Raise ConfigError for a reference that no answer can match: every answer would be graded as wrong."""
    if not row.answer.strip():
        raise source.error("answer", "is empty", "give the reference answer or leave the row out")
    check = _REFERENCE_CHECKS.get(row.answer_type)
    if check is not None and not check.is_valid(row.answer):
        shown = row.answer if len(row.answer) <= 60 else f"{row.answer[:59]}…"
        raise source.error("answer", f"{shown!r} is not {check.expected}", "fix it, or set another answer_type")


def _check_tests(row: Row, source: Source) -> None:
    if not row.tests:
        raise source.error("answer_type", "'tests' needs tests, and there are none", "add `tests`")
    if row.entry_point and not row.entry_point.isidentifier():
        problem = f"{row.entry_point!r} is not the name of a function"
        raise source.error("entry_point", problem, "name the function, or leave it out")


def _with_tests_shown(row: Row) -> Row:
    """Return the row with its tests added to the question, if only they give the function's name.

    As for MBPP in Austin et al. 2021 (arXiv 2108.07732).
    """
    if row.entry_point:
        return row
    tests = "\n".join(row.tests)
    return row.model_copy(update={"question": f"{row.question}\nYour code should pass these tests:\n\n{tests}"})


def check_answer_type(answer_type: str | None) -> None:
    """Raise ConfigError for the value of --answer-type if rows of this type can't be graded."""
    known = ", ".join(TASK_NAMES)
    require(
        answer_type is None or answer_type in TASK_NAMES, "answer_type", f"is {answer_type!r}", f"use one of {known}"
    )
