"""The columns of a data set: which of them hold question, answer and answer type, and the rows they give.

Files (data_file.py) and hub datasets (hub_dataset.py) yield raw rows; here they become rows that can be asked.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from branchwise.core.errors import ConfigError, require
from branchwise.evaluation.choices import ChoiceRow, Choices, find_choices, first_number, lists_options
from branchwise.evaluation.reference import Reference, detect_answer_type, read_reference
from branchwise.evaluation.row import Row, Source, is_letter, parse_row

INSPECTED_ROWS = 100
"""First rows of a data set, from which columns and answer type are detected, whichever rows are asked."""
_QUESTIONS = ("question", "problem", "prompt", "input", "query")
_ANSWERS = (
    *("answer", "answerKey", "target", "label", "final_answer", "expected_answer", "expected"),
    *("correct_answer", "ground_truth", "reference", "output", "solution"),
)
_SOLUTIONS = ("solution", "rationale", "explanation", "reasoning")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of question and answer, and the answer type; None detects them from names and values."""

    question: str | None = None
    answer: str | None = None
    answer_type: str | None = None
    """Type of every answer, in place of those that the rows state."""


class RawRow(NamedTuple):
    """The fields of a row as a file or dataset has them."""

    place: str
    """File and line, or data set and row, for error messages."""
    fields: Mapping[str, object]


class ColumnMap:
    """The columns that are in use, and what holds for every row."""

    def __init__(self, data: str, inspected: Sequence[RawRow], columns: Columns) -> None:
        """Detect from the first rows what `columns` leaves open; `data` is named in errors.

        Raises ConfigError for a column that does not exist or can't be detected.
        """
        names = list(dict.fromkeys(name for row in inspected for name in row.fields))
        self._question = _require_column(data, names, "question_column", columns.question, _QUESTIONS)
        self._answer = _require_column(data, names, "answer_column", columns.answer, _ANSWERS)
        self._id, self._type = _find(names, ["id"]), _find(names, ["answer_type"])
        self._solution = _find([name for name in names if name != self._answer], _SOLUTIONS)
        self._answer_type = columns.answer_type
        rows = [ChoiceRow(self._choices(row), row.fields.get(self._answer)) for row in inspected]
        self._first_number = first_number([row for row in rows if row.choices.options])
        self._detected_type = self._detect_type([row for row in inspected if not self._stated_type(row)])

    def row(self, raw: RawRow, default_id: str) -> Row:
        """Return the row to ask. Raises ConfigError that names its place and column."""
        source = self._source(raw)
        row_id = raw.fields.get(self._id) if self._id else None
        answer_type = self._answer_type or self._stated_type(raw) or self._detected_type
        reference = self._reference(raw)
        question, answer = _text(raw.fields.get(self._question), source), reference.text
        is_stated = bool(self._stated_type(raw))
        choices = self._choices(raw) if answer_type == "letter" or not is_stated else Choices()
        if choices.options:
            question += "" if choices.are_listed_in(question) else choices.listed
            if not (is_stated and is_letter(answer)):
                value = raw.fields[self._answer]
                answer = choices.letter(value if isinstance(value, int) else answer, self._first_number) or answer
        if answer_type != "number" and not is_stated:  # digests of numbers in files stay those of version 0.1.0
            answer = answer.strip()
        tests = raw.fields.get("tests")
        fields = {
            "id": default_id if row_id in (None, "") else str(row_id),
            "question": question,
            "answer": answer,
            "answer_type": answer_type,
            "tests": ((tests,) if tests else ()) if isinstance(tests, str | None) else tests,
            "entry_point": raw.fields.get("entry_point") or "",
            "test_imports": raw.fields.get("test_imports") or (),
            "solution": reference.solution or self._worked_solution(raw),
        }
        return parse_row(fields, source)

    def _source(self, raw: RawRow) -> Source:
        return Source(raw.place, {"question": self._question, "answer": self._answer})

    def _stated_type(self, raw: RawRow) -> str:
        """Return the answer type that the row states; "" if it states none or another one is set for all rows."""
        if self._answer_type or self._type is None:
            return ""
        return str(raw.fields.get(self._type) or "")

    def _choices(self, raw: RawRow) -> Choices:
        try:
            return find_choices(raw.fields)
        except ConfigError as error:
            raise self._source(raw).error(error.field, error.problem, error.fix) from error

    def _reference(self, raw: RawRow) -> Reference:
        source = self._source(raw)
        if self._answer not in raw.fields:
            raise source.error("answer", "is missing")
        return read_reference(raw.fields[self._answer], source, self._stated_type(raw))

    def _worked_solution(self, raw: RawRow) -> str:
        found = raw.fields.get(self._solution) if self._solution else None
        return found if isinstance(found, str) else ""

    def _detect_type(self, rows: Sequence[RawRow]) -> str:
        """Return the answer type that fits these rows."""
        answered = [row for row in rows if self._answer in row.fields]
        if not answered:
            return "number"
        if all(self._choices(row).options for row in rows):
            return "letter"
        references = [self._reference(row) for row in answered]
        if all(lists_options(str(row.fields.get(self._question))) for row in answered) and all(
            is_letter(reference.text) for reference in references
        ):
            return "letter"
        return detect_answer_type(references)


def _text(value: object, source: Source) -> str:
    """Return the question. Raises ConfigError if it is missing."""
    if isinstance(value, Mapping):
        value = value.get("stem")  # ARC's own files hold the options beside it
    if value is None:
        raise source.error("question", "is missing")
    if isinstance(value, bool | list | dict):
        raise source.error("question", f"got {type(value).__name__}, must be a text")
    return str(value)


def _require_column(data: str, names: Sequence[str], option: str, requested: str | None, usual: Sequence[str]) -> str:
    known = ", ".join(names) or "missing"
    if requested is not None:
        require(requested in names, option, f"is {requested!r}", f"use one of {known}")
        return requested
    found = _find(names, usual)
    if found is None:
        raise ConfigError(option, f"can't be detected in {data}", f"name it: the columns are {known}")
    return found


def _find(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the first of the usual names that a column has, exactly or in other case and punctuation."""
    exact = next((name for name in usual if name in names), None)
    similar = {_plain(name): name for name in reversed(names)}
    return exact or next((similar[_plain(name)] for name in usual if _plain(name) in similar), None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
