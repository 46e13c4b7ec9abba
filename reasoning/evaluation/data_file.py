"""Rows of local files: JSON Lines, JSON arrays, CSV and TSV, each also compressed with gzip.

The content decides between JSON Lines and an array, and whether a file is compressed. Text is UTF-8, with or without a
byte order mark, or UTF-16 with one.
"""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from branchwise.core.errors import ConfigError
from branchwise.evaluation.columns import RawRow

_GZIP = ".gz"
_GZIP_START = b"\x1f\x8b"
_TABLES = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".jsonl", ".json", *_TABLES)
_FORMATS = "give JSON Lines, a JSON array, CSV or TSV in UTF-8"
_MAX_FIELD = 2**31 - 1  # characters of a cell; the csv module's own limit is 131,072


def plain_name(file: str) -> str:
    """Return the name of a file without its folder and suffixes: "gsm8k" for data/gsm8k.jsonl.gz."""
    return Path(file.removesuffix(_GZIP)).stem


def file_rows(file: Path) -> Iterator[RawRow]:
    """Yield the rows of a file. Raises ConfigError that names the line, or the row of an array, that can't be read."""
    try:
        with _open(file) as text:
            lines = _checked_lines(file, text)
            suffix = Path(file.name.removesuffix(_GZIP)).suffix.lower()
            yield from _table_rows(file, lines, _TABLES[suffix]) if suffix in _TABLES else _json_rows(file, lines)
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        raise ConfigError("data", f"cannot read {file} ({error})", _FORMATS) from error


def _open(file: Path) -> TextIO:
    """Open a file as text. Bytes that are not UTF-8 become surrogates, so that their line can be named."""
    with file.open("rb") as start:
        is_compressed = start.read(len(_GZIP_START)) == _GZIP_START
    binary = gzip.open(file) if is_compressed else file.open("rb")  # noqa: SIM115  # closed with the text
    mark = binary.peek(2)[:2]
    encoding = "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return io.TextIOWrapper(binary, encoding, errors="surrogateescape", newline="")


def _checked_lines(file: Path, text: TextIO) -> Iterator[str]:
    for number, line in enumerate(text, 1):
        if "\0" in line:
            raise ConfigError("data", f"{file}, line {number}: holds a NUL byte", _FORMATS)
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise ConfigError("data", f"{file}, line {number}: is not UTF-8", _FORMATS) from error
        yield line


def _json_rows(file: Path, lines: Iterator[str]) -> Iterator[RawRow]:
    before: list[str] = []
    for line in lines:
        before.append(line)
        if line.strip():
            break
    is_array = bool(before) and before[-1].lstrip().startswith("[")
    rest = chain(before, lines)
    return _array_rows(file, "".join(rest)) if is_array else _line_rows(file, rest)


def _line_rows(file: Path, lines: Iterator[str]) -> Iterator[RawRow]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{file}, line {number}"
            yield _object_row(place, _decode(place, line))


def _array_rows(file: Path, text: str) -> Iterator[RawRow]:
    values = _decode(str(file), text)
    if isinstance(values, list):
        for index, value in enumerate(values):
            yield _object_row(f"{file}, row {index}", value)


def _decode(place: str, text: str) -> object:
    """Decode JSON: numbers with a fraction or exponent as they are written, NaN as None (pandas writes it for both)."""
    try:
        value: object = json.loads(text, parse_float=str, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.strip() else ""
        fix = "write each row in one line, or all rows as an array"
        raise ConfigError("data", f"{place}{line}, JSON: {error.msg} (column {error.colno})", fix) from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or deep nesting
        raise ConfigError("data", f"{place}, JSON: {error}", "fix the row or leave it out") from error
    return value


def _object_row(place: str, value: object) -> RawRow:
    if not isinstance(value, dict):
        raise ConfigError("data", f"{place}, JSON: got {type(value).__name__}, must be an object", "give its fields")
    return RawRow(place, value)


def _table_rows(file: Path, lines: Iterator[str], delimiter: str) -> Iterator[RawRow]:
    """Yield the rows of a table whose first row names the columns. A place is the line in which a row begins."""
    records = _records(file, lines, delimiter)
    if not records:
        return
    _, header = records[0]
    names = [name.strip() for name in header]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError("data", f"{file} has two columns {repeated}", "name every column once")
    for number, cells in records[1:]:
        place = f"{file}, line {number}"
        if len(cells) != len(names):
            problem = f"{place}: has {len(cells)} fields, the first line has {len(names)}"
            raise ConfigError("data", problem, "quote fields that hold a delimiter or a line break")
        yield RawRow(place, dict(zip(names, cells, strict=True)))


def _records(file: Path, lines: Iterator[str], delimiter: str) -> Sequence[tuple[int, list[str]]]:
    """Return the records of a table that are not blank, each with the line in which it begins."""
    first = next(lines, "")
    if delimiter == "," and "," not in first and ";" in first:  # as spreadsheets write it in many countries
        delimiter = ";"
    records: list[tuple[int, list[str]]] = []
    limit = csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        begin = 1
        for cells in reader:
            if any(cells):
                records.append((begin, cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError("data", f"{file}, line {begin}: {error}", "quote its fields as CSV does") from error
    finally:
        csv.field_size_limit(limit)
    return records
