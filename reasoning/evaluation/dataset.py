"""Data sets: questions with reference answers, from local files and Hugging Face datasets."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from branchwise.core.errors import ConfigError, require
from branchwise.evaluation.columns import INSPECTED_ROWS, ColumnMap, Columns, RawRow
from branchwise.evaluation.data_file import SUFFIXES, file_rows, plain_name
from branchwise.evaluation.hub_dataset import hub_name, hub_rows, is_hub
from branchwise.evaluation.metrics import check_metrics
from branchwise.evaluation.row import Row, check_answer_type
from branchwise.sandbox.sandbox import check_sandbox


def read_rows(source: str, skip: int = 0, limit: int | None = None, columns: Columns | None = None) -> Sequence[Row]:
    """Return up to `limit` rows of a data set, without the first `skip`.

    `source` is the path of a file (see data_file.py for its formats), the name of one in the folder BRANCHWISE_DATA, or
    a dataset `hf:OWNER/NAME` (see hub_dataset.py). What `columns` leaves open is detected from the first rows. A row
    without an id is called after the data set and its place in it, from 0: gsm8k-17.

    Raises ConfigError naming the line and field of the first invalid row; SandboxError if rows have tests and programs
    can't be run here; MissingExtraError if the packages that compare texts are missing.
    """
    columns = columns or Columns()
    check_answer_type(columns.answer_type)
    place = source if is_hub(source) else str(find_data(source))
    raw_rows = hub_rows(source) if is_hub(source) else file_rows(Path(place))
    end = None if limit is None else skip + limit
    raw = _read(raw_rows, end)
    require(bool(raw), "data", f"{place} holds no rows", "give a file with one question a row")
    require(skip < len(raw), "skip", f"is {skip}, but {place} has {len(raw)} rows", "skip fewer")
    column_map, name = ColumnMap(place, raw[:INSPECTED_ROWS], columns), source_name(source)
    rows = [column_map.row(fields, f"{name}-{index}") for index, fields in enumerate(raw[skip:end], skip)]
    _check_ids(rows, raw[skip:end])
    _check_graders(rows)
    return rows


def source_name(source: str) -> str:
    """Return the name of a data set in results: "gsm8k" for a path or dataset of that name."""
    return hub_name(source) if is_hub(source) else plain_name(source)


def source_origin(source: str) -> str:
    """Return the absolute path of a file, or a dataset's name unchanged."""
    return source if is_hub(source) else str(find_data(source).resolve())


def find_data(source: str) -> Path:
    """Return a file by its path or its name in the folder BRANCHWISE_DATA. Raises ConfigError if it is missing."""
    candidates, folder = [source], os.environ.get("BRANCHWISE_DATA")
    if folder:
        names = [source, *(f"{source}{suffix}{zipped}" for suffix in SUFFIXES for zipped in ("", ".gz"))]
        candidates += [os.path.join(folder, name) for name in names]
    for candidate in map(os.path.expanduser, candidates):
        if os.path.isfile(candidate):  # unlike Path.is_file, never raises for a name that is too long
            return Path(candidate)
    fix = "give a path, or set BRANCHWISE_DATA to the folder that holds it"
    raise ConfigError("data", f"there is no file {source}", fix)


def _read(rows: Iterator[RawRow], end: int | None) -> Sequence[RawRow]:
    """Return the rows before `end`, and the others from which columns are detected.

    Raises ConfigError if one before `end` can't be read.
    """
    found: list[RawRow] = []
    try:
        found.extend(islice(rows, None if end is None else max(end, INSPECTED_ROWS)))
    except ConfigError:
        if end is None or len(found) < end:
            raise
    return found


def _check_graders(rows: Sequence[Row]) -> None:
    """Raise SandboxError or MissingExtraError if the rows can't be graded here."""
    answer_types = {row.answer_type for row in rows}
    if "tests" in answer_types:
        check_sandbox()
    if "reference" in answer_types:
        check_metrics()


def _check_ids(rows: Sequence[Row], raw: Sequence[RawRow]) -> None:
    """Raise ConfigError for the first row whose id an earlier one has."""
    places: dict[str, str] = {}
    for row, origin in zip(rows, raw, strict=True):
        if row.id in places:
            problem = f"{origin.place}, id: {row.id!r} is also that of {places[row.id]}"
            raise ConfigError("data", problem, "give every row an id of its own")
        places[row.id] = origin.place.rpartition(", ")[2]
