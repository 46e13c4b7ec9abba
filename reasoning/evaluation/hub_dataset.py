"""Rows of Hugging Face datasets, from the hub or from a local folder in its format.

A source is `hf:OWNER/NAME`, `hf:OWNER/NAME/CONFIG` or `hf:FOLDER`, each with an optional `@SPLIT`. The default is the
first of test, validation and train that exists.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from branchwise.answers.numbers import read_number
from branchwise.core.errors import ConfigError, MissingExtraError, require

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "hf:"
_SPLITS = ("test", "validation", "train")
_QUESTION_COLUMNS = ("question", "problem", "prompt", "input", "query")
_ANSWER_COLUMNS = ("answer", "answerKey", "target", "label", "final_answer", "solution")
_BOOLEANS = {"true", "false"}
_INSPECTED_ROWS = 100  # rows from which the answer type is detected
_UP_TO_MARK = re.compile(r".*####", re.DOTALL)  # GSM8K separates the worked solution from the answer with ####


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of question and answer, and the answer type; None detects them from names and values."""

    question: str | None = None
    answer: str | None = None
    answer_type: str | None = None


def is_hub(source: str) -> bool:
    """Return True if the source is a Hugging Face dataset."""
    return source.startswith(PREFIX)


def hub_name(source: str) -> str:
    """Return the name of a dataset in results: "gsm8k" for "hf:openai/gsm8k/main@test"."""
    path = source.removeprefix(PREFIX).partition("@")[0].rstrip("/")
    parts = path.split("/")
    return parts[-1] if os.path.exists(path) or len(parts) < 2 else parts[1]


def hub_rows(source: str, columns: Columns, skip: int, limit: int | None) -> Sequence[Mapping[str, object]]:
    """Return up to `limit` rows without the first `skip`, each as the fields of a `Row`.

    Raises ConfigError if the dataset, split or column does not exist; MissingExtraError without the extra `data`.
    """
    dataset = _load(source)
    question = _find_column(dataset, "question_column", columns.question, _QUESTION_COLUMNS)
    answer = _find_column(dataset, "answer_column", columns.answer, _ANSWER_COLUMNS)
    answer_type = columns.answer_type or _detect_answer_type(dataset, answer)
    require(skip < dataset.num_rows, "skip", f"is {skip}, but {source} has {dataset.num_rows} rows", "skip fewer")
    name, end = hub_name(source), dataset.num_rows if limit is None else min(skip + limit, dataset.num_rows)
    rows: list[dict[str, object]] = []
    for number in range(skip, end):
        row: Mapping[str, object] = dataset[number]
        text, choices = row[question], _choices(row)
        require(text is not None, "data", f"{source}, row {number}, has no {question}", "use a split that has it")
        listed = "".join(f"\n{letter}. {option}" for letter, option in choices.lettered)
        rows.append(
            {
                "id": str(row.get("id", f"{name}-{number}")),
                "question": f"{text}{listed}",
                "answer": _answer_text(row[answer], choices),
                "answer_type": answer_type,
            }
        )
    return rows


def _load(source: str) -> "Dataset":
    try:
        from datasets import DatasetDict, load_dataset
    except ImportError as error:
        raise MissingExtraError(error.name or "datasets", "data") from error
    path, _, split = source.removeprefix(PREFIX).partition("@")
    config = None
    if not os.path.exists(path):
        owner, _, rest = path.partition("/")
        name, _, config_name = rest.partition("/")
        require(bool(owner and name), "data", f"{source} names no dataset", "write hf:OWNER/NAME or hf:FOLDER")
        path, config = f"{owner}/{name}", config_name or None
    try:
        loaded: DatasetDict | Dataset = load_dataset(path, config)
    except Exception as error:  # network errors, the hub's refusals and invalid datasets have no common class
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError("data", f"{source} can't be loaded ({reason})", "check the name and the network") from error
    if not isinstance(loaded, DatasetDict):
        raise ConfigError("data", f"{source} has no splits", "use a dataset of rows")
    chosen = split or next((name for name in _SPLITS if name in loaded), next(iter(loaded)))
    require(chosen in loaded, "data", f"{source} has no split {chosen}", f"use one of {', '.join(loaded)}")
    return loaded[chosen]


def _find_column(dataset: "Dataset", field: str, requested: str | None, usual: Sequence[str]) -> str:
    columns = dataset.column_names
    if requested is not None:
        require(requested in columns, field, f"is {requested!r}", f"use one of {', '.join(columns)}")
        return requested
    found = next((name for name in usual if name in columns), None)
    if found is None:
        raise ConfigError(field, "can't be detected", f"name it: the columns are {', '.join(columns)}")
    return found


def _detect_answer_type(dataset: "Dataset", answer: str) -> str:
    """Return the answer type that fits the first rows."""
    rows: list[Mapping[str, object]] = list(islice(iter(dataset), _INSPECTED_ROWS))
    if all(_choices(row).options for row in rows):
        return "letter"
    answers = [_answer_text(row[answer], _Choices()) for row in rows]
    words = {text.casefold() for text in answers}
    if words <= _BOOLEANS:
        return "boolean"
    if words <= _BOOLEANS | {"yes", "no"}:
        return "yes_no"
    return "number" if all(read_number(text) is not None for text in answers) else "text"


class _Choices(NamedTuple):
    """The options of a multiple-choice row; empty for other rows."""

    options: Sequence[str] = ()
    labels: Sequence[str] = ()
    """The row's own labels. Questions list the options as A, B, C, ..."""

    @property
    def lettered(self) -> Sequence[tuple[str, str]]:
        """Letters and options."""
        return [(_letter(index), option) for index, option in enumerate(self.options)]

    def letter(self, answer: object) -> str | None:
        """Return the letter of the option that an answer names by label, index, text, letter or number from 1."""
        text = str(answer).strip()
        if text in self.labels:
            index = self.labels.index(text)
        elif isinstance(answer, int):
            index = answer
        elif text in self.options:
            index = self.options.index(text)
        elif re.fullmatch("[A-Z]", text):
            index = ord(text) - ord("A")
        else:
            index = int(text) - 1 if text.isdecimal() else -1
        return _letter(index) if 0 <= index < len(self.options) else None


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _choices(row: Mapping[str, object]) -> _Choices:
    """Return the options of a row: a list of texts (MMLU), or {"label": [...], "text": [...]} (ARC)."""
    choices = row.get("choices")
    if isinstance(choices, Mapping) and isinstance(choices.get("text"), list):
        labels = choices.get("label")
        return _Choices(list(map(str, choices["text"])), list(map(str, labels)) if isinstance(labels, list) else ())
    return _Choices(list(map(str, choices))) if isinstance(choices, list) else _Choices()


def _answer_text(answer: object, choices: _Choices) -> str:
    """Return the answer as text: the part after ####, yes or no for a boolean, the letter of an option."""
    if answer is None:
        return ""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    text = _UP_TO_MARK.sub("", str(answer)).strip()
    return choices.letter(answer) or text
