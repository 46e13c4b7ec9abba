"""Questions with reference answers, from JSON Lines files and from datasets on the Hugging Face hub."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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

_YES_NO = (lambda answer: YesNo().normal(answer) in ("yes", "no"), "yes or no")
_REFERENCES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "number": (lambda answer: read_number(answer) is not None, "number"),
    "letter": (lambda answer: re.fullmatch("[A-Z]", Letter().normal(answer)) is not None, "letter"),
    "yes_no": _YES_NO,
    "boolean": _YES_NO,
}
"""What a reference must be, by the kind of answer."""


class Row(BaseModel):
    """One question, as it is asked. Fields beyond these are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    question: str
    answer: str
    answer_type: str = "number"
    tests: tuple[str, ...] = ()
    """Python to run after a program; all of it passes where the program is right."""
    entry_point: str = ""
    """The function that the tests' `check` is called with; "" where they call it themselves."""
    test_imports: tuple[str, ...] = ()
    """Lines that go before the program."""

    @property
    def digest(self) -> str:
        """Tells the row from one that is asked or graded otherwise."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def task(self) -> Task:
        """The task its kind of answer asks for."""
        return TASKS[_TASKS[self.answer_type]]


def read_rows(source: str, skip: int = 0, limit: int | None = None, columns: Columns | None = None) -> Sequence[Row]:
    """`limit` rows after the first `skip`, of a file, named by its path or by its name in the folder BRANCHWISE_DATA,
    or of a dataset on the hub (see hub_dataset.py), whose `columns` may be named.

    Raises ConfigError naming the line and field of the first row that is wrong, SandboxError where there are programs
    to be graded and none can be run here, and MissingExtraError where texts are to be compared without the libraries.
    """
    if is_hub(source):
        told = hub_rows(source, columns or Columns(), skip, limit)
        rows = [_row(f"{source}, row {skip + place}", data) for place, data in enumerate(told)]
        _check_ids(rows, source)
        return _gradable(rows)
    require(columns is None or columns == Columns(), "data", f"{source} is a file: its fields have their names",
            f"leave columns out, or name a dataset: {PREFIX}OWNER/NAME")  # fmt: skip
    file = find_data(source)
    rows = _read(file, None if limit is None else skip + limit)
    require(skip < len(rows), "skip", f"is {skip}, and {file} has {len(rows)} rows", "skip fewer")
    _check_ids(rows, file)
    return _gradable(rows[skip:])


def _gradable(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows, if what grades them is here."""
    kinds = {row.answer_type for row in rows}
    if "tests" in kinds:
        check_sandbox()
    if "reference" in kinds:
        check_metrics()
    return rows


def name_of(source: str) -> str:
    """What results call it: "gsm8k" for a path and for a dataset of that name."""
    return hub_name(source) if is_hub(source) else Path(source).stem


def origin(source: str) -> str:
    """Where it is: a file's whole path, a dataset as it was named."""
    return source if is_hub(source) else str(find_data(source).resolve())


def find_data(source: str) -> Path:
    """A file by its path, or by its name in the folder BRANCHWISE_DATA. Raises ConfigError where there is none."""
    places, folder = [source], os.environ.get("BRANCHWISE_DATA")
    if folder:
        places += [os.path.join(folder, source), os.path.join(folder, f"{source}.jsonl")]
    for place in map(os.path.expanduser, places):
        if os.path.isfile(place):  # Path's own raises where a name is too long
            return Path(place)
    raise ConfigError(
        "data", f"there is no file {source}", "give a path, or set BRANCHWISE_DATA to the folder that holds it"
    )


def _read(file: Path, most: int | None) -> list[Row]:
    """The first rows of a file, at least one."""
    rows: list[Row] = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if len(rows) == most:
                    break
                if line.strip():
                    rows.append(_row(f"{file}, line {number}", line))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("data", f"cannot read {file} ({error})", "give a JSON Lines file in UTF-8") from error
    if not rows:
        raise ConfigError("data", f"{file} holds no rows", "give a JSON Lines file with one question a line")
    return rows


def _check_ids(rows: Sequence[Row], source: str | Path) -> None:
    repeated = [row_id for row_id, times in Counter(row.id for row in rows).items() if times > 1]
    if repeated:
        raise ConfigError("data", f"{source} holds the id {repeated[0]!r} more than once", "give every row its own")


def _row(where: str, data: str | Mapping[str, object]) -> Row:
    """A row from a line of JSON, or from its fields; `where` it stands."""
    try:
        row = Row.model_validate_json(data) if isinstance(data, str) else Row.model_validate(data)
    except ValidationError as error:
        first = first_field_error(error)
        field = first.field or "JSON"
        raise ConfigError("data", f"{where}, {field}: {first.message}", "mend the row or leave it out") from error
    if row.answer_type not in _TASKS:
        raise ConfigError(
            "data",
            f"{where}, answer_type: {row.answer_type!r} can't be scored",
            f"use one of {', '.join(_TASKS)}",
        )
    if row.answer_type == "tests":
        _check_tests(row, where)
        return _with_tests_shown(row)
    _check_answer(row, where)
    if row.answer_type == "expression24" and not read_numbers(row.question):
        problem = f"{where}, question: has no numbers to make 24 of"
        raise ConfigError("data", problem, "write them as `4 4 6 8`")
    return row


def _check_answer(row: Row, where: str) -> None:
    """A reference that no answer can be equal to would make every answer wrong."""
    if not row.answer.strip():
        raise ConfigError("data", f"{where}, answer: is empty", "give the reference answer or leave the row out")
    if row.answer_type in _REFERENCES:
        is_one, what = _REFERENCES[row.answer_type]
        if not is_one(row.answer):
            problem = f"{where}, answer: {row.answer!r} is no {what}"
            raise ConfigError("data", problem, "mend it, or give another answer_type")


def _check_tests(row: Row, where: str) -> None:
    if not row.tests:
        raise ConfigError("data", f"{where}, answer_type: 'tests' needs tests, and there are none", "add `tests`")
    if row.entry_point and not row.entry_point.isidentifier():
        problem = f"{where}, entry_point: {row.entry_point!r} is no name of a function"
        raise ConfigError("data", problem, "name the function, or leave it out")


def _with_tests_shown(row: Row) -> Row:
    """Where a function is asked for in words, its name appears in the tests alone: they are part of the question,
    as in Austin et al. 2021 (arXiv 2108.07732)."""
    if row.entry_point:
        return row
    shown = "\n".join(row.tests)
    return row.model_copy(update={"question": f"{row.question}\nYour code should pass these tests:\n\n{shown}"})
