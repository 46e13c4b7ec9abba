"""The options of multiple-choice rows, in the forms that data sets use, and the letter of an answer."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from branchwise.core.errors import ConfigError

_COLUMNS = ("choices", "options")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Choices(NamedTuple):
    """The options of a multiple-choice row; empty for other rows."""

    options: Sequence[str] = ()
    labels: Sequence[str] = ()
    """The row's own labels. Questions list the options as A, B, C, ..."""

    @property
    def listed(self) -> str:
        """The options as lines after a question."""
        return "".join(f"\n{letter}. {option}" for letter, option in zip(_LETTERS, self.options, strict=False))

    def are_listed_in(self, question: str) -> bool:
        """Return True if the question lists every option after its letter."""
        pairs = zip(_LETTERS, self.options, strict=False)
        return all(re.search(rf"\b{letter}[.):]+\s*{re.escape(option)}", question) for letter, option in pairs)

    def letter(self, answer: object, first: int) -> str | None:
        """Return the letter of the option that an answer names by label, number, text or letter; None if it names none.

        Numbers count from `first`, or from 1 if they are text and the options have labels.
        """
        text = str(answer).strip()
        if text in self.labels:
            index = self.labels.index(text)
        elif isinstance(answer, int):
            index = answer - first
        elif text in self.options:
            index = self.options.index(text)
        elif re.fullmatch("[A-Z]", text):
            index = _LETTERS.index(text)
        elif (named := re.fullmatch(r"\(?([A-Z])[.):]+\s*(.+)", text, re.DOTALL)) and named.group(2) in self.options:
            index = _LETTERS.index(named.group(1))
        else:
            index = int(text) - (1 if self.labels else first) if _is_number(text) else -1
        return _LETTERS[index] if 0 <= index < min(len(self.options), len(_LETTERS)) else None


class ChoiceRow(NamedTuple):
    """The options of a row, and its answer."""

    choices: Choices
    answer: object


def first_number(rows: Sequence[ChoiceRow]) -> int:
    """Return the number of the first option, where answers are numbers: 1 if an answer is the number of options, and
    none is 0; else 0."""
    numbers = [
        (int(str(row.answer)), len(row.choices.options))
        for row in rows
        if _is_number(str(row.answer)) and str(row.answer) not in (*row.choices.labels, *row.choices.options)
    ]
    return int(all(number > 0 for number, _ in numbers) and any(number == count for number, count in numbers))


def lists_options(question: str) -> bool:
    """Return True if the text of a question lists options by letter."""
    return re.search(r"\bA[.):].*\bB[.):]", question, re.DOTALL) is not None


def find_choices(fields: Mapping[str, object]) -> Choices:
    """Return the options of a row.

    They are a list of texts (MMLU), `{"label": [...], "text": [...]}` or a list of `{"label": ..., "text": ...}` (ARC),
    texts by label (MedQA), such a value as text in a table, or columns A, B, ... Raises ConfigError about the column if
    its text can't be read.
    """
    question = next((value for value in fields.values() if isinstance(value, Mapping) and "stem" in value), {})
    for column in _COLUMNS:
        value = fields.get(column, question.get(column))
        found = _parse(_decode(value, column) if isinstance(value, str) else value)
        if found.options:
            return found
    lettered: list[str] = []
    for letter in _LETTERS:
        if fields.get(letter) in (None, ""):
            break
        lettered.append(str(fields[letter]))
    return Choices(lettered) if len(lettered) > 1 else Choices()


def _parse(value: object) -> Choices:
    if isinstance(value, Mapping):
        texts, labels = value.get("text"), value.get("label")
        if isinstance(texts, list):
            return Choices(list(map(str, texts)), list(map(str, labels)) if isinstance(labels, list) else ())
        if all(isinstance(text, str | int | float) for text in value.values()):
            return Choices(list(map(str, value.values())), list(map(str, value)))
    if isinstance(value, list):
        pairs = [item for item in value if isinstance(item, Mapping) and {"text", "label"} <= item.keys()]
        if pairs and len(pairs) == len(value):
            return Choices([str(item["text"]) for item in pairs], [str(item["label"]) for item in pairs])
        return Choices(list(map(str, value)))
    return Choices()


def _decode(text: str, column: str) -> object:
    """Return the list or mapping that a cell of a table holds as text; None for other text."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    for decode in (json.loads, ast.literal_eval):
        try:
            value: object = decode(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, Mapping) or (isinstance(value, list) and len(value) > 1):  # numpy prints no commas
            return value
    raise ConfigError(column, f"{text[:60]!r} is not a list of options", 'write it as JSON: ["one", "two"]')


def _is_number(text: str) -> bool:
    return text.isascii() and text.strip().isdecimal()
