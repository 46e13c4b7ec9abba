"""Questions with reference answers: rows of JSON Lines files and of Hugging Face datasets."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from branchwise.answers.formats import Letter, YesNo
from branchwise.answers.numbers import read_number
from branchwise.core.errors import ConfigError, require
from branchwise.core.validation import first_field_error
from branchwise.evaluation.hub_dataset import PREFIX, Columns, hub_name, hub_rows, is_hub
from branchwise.evaluation.metrics import check_metrics
from branchwise.prompts.library import TASKS
from branchwise.prompts.task import Task
from branchwise.sandbox.sandbox import check_sandbox
from branchwise.verifiers.game24 import read_numbers

_TASKS = {
    "number": "math",
    "latex": "math",
    "letter": "choice",
    "yes_no": "yes-no",
    "boolean": "true-false",
    "text": "text",
    "reference": "text",
    "tests": "code",
    "expression24": "game24",
}
"""Name of the task by answer type."""


class _ReferenceCheck(NamedTuple):
    """The condition that a reference must meet, and its name in error messages."""

    is_valid: Callable[[str], bool]
    expected: str


_YES_NO = _ReferenceCheck(lambda answer: YesNo().normal(answer) in ("yes", "no"), "yes or no")
_REFERENCE_CHECKS: Mapping[str, _ReferenceCheck] = {
    "number": _ReferenceCheck(lambda answer: read_number(answer) is not None, "a number"),
    "letter": _ReferenceCheck(lambda answer: re.fullmatch("[A-Z]", Letter().normal(answer)) is not None, "a letter"),
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

    @property
    def digest(self) -> str:
        """Digest of all fields; rows that are asked or graded differently have different digests."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def task(self) -> Task:
        """The task for the answer type."""
        return TASKS[_TASKS[self.answer_type]]


def read_rows(source: str, skip: int = 0, limit: int | None = None, columns: Columns | None = None) -> Sequence[Row]:
    """Return up to `limit` rows of a data set, without the first `skip`.

    `source` is the path of a JSON Lines file, the name of one in the folder BRANCHWISE_DATA, or a dataset
    `hf:OWNER/NAME` (see hub_dataset.py), of which `columns` may be given.

    Raises ConfigError naming the line and field of the first invalid row; SandboxError if rows have tests and programs
    can't be run here; MissingExtraError if the packages that compare texts are missing.
    """
    if is_hub(source):
        fields = hub_rows(source, columns or Columns(), skip, limit)
        rows = [_parse_row(f"{source}, row {skip + index}", row) for index, row in enumerate(fields)]
        _check_ids(rows, source)
    else:
        require(
            columns is None or columns == Columns(),
            "data",
            f"{source} is a file, whose fields have fixed names",
            f"leave the column options out, or name a dataset: {PREFIX}OWNER/NAME",
        )
        file = find_data(source)
        rows = _read_file(file, None if limit is None else skip + limit)
        require(skip < len(rows), "skip", f"is {skip}, but {file} has {len(rows)} rows", "skip fewer")
        _check_ids(rows, file)
        rows = rows[skip:]
    _check_graders(rows)
    return rows


def source_name(source: str) -> str:
    """Return the name of a data set in results: "gsm8k" for a path or dataset of that name."""
    return hub_name(source) if is_hub(source) else Path(source).stem


def source_origin(source: str) -> str:
    """Return the absolute path of a file, or a dataset's name unchanged."""
    return source if is_hub(source) else str(find_data(source).resolve())


def find_data(source: str) -> Path:
    """Return a file by its path or its name in the folder BRANCHWISE_DATA. Raises ConfigError if it is missing."""
    candidates, folder = [source], os.environ.get("BRANCHWISE_DATA")
    if folder:
        candidates += [os.path.join(folder, source), os.path.join(folder, f"{source}.jsonl")]
    for candidate in map(os.path.expanduser, candidates):
        if os.path.isfile(candidate):  # unlike Path.is_file, never raises for a name that is too long
            return Path(candidate)
    fix = "give a path, or set BRANCHWISE_DATA to the folder that holds it"
    raise ConfigError("data", f"there is no file {source}", fix)


def _check_graders(rows: Sequence[Row]) -> None:
    """Raise SandboxError or MissingExtraError if the rows can't be graded here."""
    answer_types = {row.answer_type for row in rows}
    if "tests" in answer_types:
        check_sandbox()
    if "reference" in answer_types:
        check_metrics()


def _read_file(file: Path, limit: int | None) -> list[Row]:
    """Return the first rows of a file. Raises ConfigError if it has no rows."""
    rows: list[Row] = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if len(rows) == limit:
                    break
                if line.strip():
                    rows.append(_parse_row(f"{file}, line {number}", line))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("data", f"cannot read {file} ({error})", "give a JSON Lines file in UTF-8") from error
    if not rows:
        raise ConfigError("data", f"{file} holds no rows", "give a JSON Lines file with one question a line")
    return rows


def _check_ids(rows: Sequence[Row], source: str | Path) -> None:
    repeated = [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]
    if repeated:
        problem = f"{source} holds the id {repeated[0]!r} more than once"
        raise ConfigError("data", problem, "give every row an id of its own")


def _parse_row(place: str, data: str | Mapping[str, object]) -> Row:
    """Return the row of a JSON line or of its fields; `place` is named in errors."""
    try:
        row = Row.model_validate_json(data) if isinstance(data, str) else Row.model_validate(data)
    except ValidationError as error:
        first = first_field_error(error)
        problem = f"{place}, {first.field or 'JSON'}: {first.message}"
        raise ConfigError("data", problem, "fix the row or leave it out") from error
    if row.answer_type not in _TASKS:
        problem = f"{place}, answer_type: {row.answer_type!r} can't be scored"
        raise ConfigError("data", problem, f"use one of {', '.join(_TASKS)}")
    if row.answer_type == "tests":
        _check_tests(row, place)
        return _with_tests_shown(row)
    _check_reference(row, place)
    if row.answer_type == "expression24" and not read_numbers(row.question):
        problem = f"{place}, question: has no numbers to make 24 of"
        raise ConfigError("data", problem, "write them as `4 4 6 8`")
    return row


def _check_reference(row: Row, place: str) -> None:
    """Raise ConfigError for a reference that no answer can match: every answer would be graded as wrong."""
    if not row.answer.strip():
        raise ConfigError("data", f"{place}, answer: is empty", "give the reference answer or leave the row out")
    check = _REFERENCE_CHECKS.get(row.answer_type)
    if check is not None and not check.is_valid(row.answer):
        problem = f"{place}, answer: {row.answer!r} is not {check.expected}"
        raise ConfigError("data", problem, "fix it, or give another answer_type")


def _check_tests(row: Row, place: str) -> None:
    if not row.tests:
        raise ConfigError("data", f"{place}, answer_type: 'tests' needs tests, and there are none", "add `tests`")
    if row.entry_point and not row.entry_point.isidentifier():
        problem = f"{place}, entry_point: {row.entry_point!r} is not the name of a function"
        raise ConfigError("data", problem, "name the function, or leave it out")


def _with_tests_shown(row: Row) -> Row:
    """Return the row with its tests added to the question, if only they give the function's name.

    As for MBPP in Austin et al. 2021 (arXiv 2108.07732).
    """
    if row.entry_point:
        return row
    tests = "\n".join(row.tests)
    return row.model_copy(update={"question": f"{row.question}\nYour code should pass these tests:\n\n{tests}"})
