"""Rows of datasets in Hugging Face's form, from the hub or from a folder of such files.

`hf:OWNER/NAME`, `hf:OWNER/NAME/CONFIG`, `hf:FOLDER`, each with `@SPLIT` where it is not to be the first of test,
validation and train that there is.
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
_QUESTIONS = ("question", "problem", "prompt", "input", "query")
_ANSWERS = ("answer", "answerKey", "target", "label", "final_answer", "solution")
_TRUTHS = {"true", "false"}
_SEEN = 100  # rows that tell of what type the answers are
_MARK = re.compile(r".*####", re.DOTALL)  # GSM8K's worked solutions end with it and the answer


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold the question and the answer, and of what type answers are; None: found by their names and by
    what they hold."""

    question: str | None = None
    answer: str | None = None
    answer_type: str | None = None


def is_hub(source: str) -> bool:
    """Whether a name is that of such a dataset."""
    return source.startswith(PREFIX)


def hub_name(source: str) -> str:
    """What results call it: "gsm8k" for "hf:openai/gsm8k/main@test"."""
    where = source.removeprefix(PREFIX).partition("@")[0].rstrip("/")
    parts = where.split("/")
    return parts[-1] if os.path.exists(where) or len(parts) < 2 else parts[1]


def hub_rows(source: str, columns: Columns, skip: int, limit: int | None) -> list[dict[str, object]]:
    """`limit` rows after the first `skip`, as data of a Row.

    Raises ConfigError for a dataset, split or column that is not there, MissingExtraError without the extra `data`.
    """
    dataset = _load(source)
    question = _column(dataset, "question_column", columns.question, _QUESTIONS)
    answer = _column(dataset, "answer_column", columns.answer, _ANSWERS)
    kind = columns.answer_type or _kind(dataset, answer)
    require(skip < dataset.num_rows, "skip", f"is {skip}, and {source} has {dataset.num_rows} rows", "skip fewer")
    name, end = hub_name(source), dataset.num_rows if limit is None else min(skip + limit, dataset.num_rows)
    rows: list[dict[str, object]] = []
    for number in range(skip, end):
        row: Mapping[str, object] = dataset[number]
        asked, choices = row[question], _choices(row)
        require(asked is not None, "data", f"{source}, row {number}, has no {question}", "use a split that has it")
        listed = "".join(f"\n{letter}. {option}" for letter, option in choices.listed)
        rows.append(
            {
                "id": str(row.get("id", f"{name}-{number}")),
                "question": f"{asked}{listed}",
                "answer": _answer(row[answer], choices),
                "answer_type": kind,
            }
        )
    return rows


def _load(source: str) -> "Dataset":
    try:
        from datasets import DatasetDict, load_dataset
    except ImportError as error:
        raise MissingExtraError(error.name or "datasets", "data") from error
    where, _, split = source.removeprefix(PREFIX).partition("@")
    config = None
    if not os.path.exists(where):
        owner, _, rest = where.partition("/")
        name, _, wanted = rest.partition("/")
        require(bool(owner and name), "data", f"{source} names no dataset", "write hf:OWNER/NAME or hf:FOLDER")
        where, config = f"{owner}/{name}", wanted or None
    try:
        found: DatasetDict | Dataset = load_dataset(where, config)
    except Exception as error:  # the network, the hub's refusals and the dataset's own faults have many names
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError("data", f"{source} can't be loaded ({why})", "check the name and the network") from error
    if not isinstance(found, DatasetDict):
        raise ConfigError("data", f"{source} has no splits", "use a dataset of rows")
    chosen = split or next((name for name in _SPLITS if name in found), next(iter(found)))
    require(chosen in found, "data", f"{source} has no split {chosen}", f"use one of {', '.join(found)}")
    return found[chosen]


def _column(dataset: "Dataset", field: str, wanted: str | None, usual: Sequence[str]) -> str:
    known = dataset.column_names
    if wanted is not None:
        require(wanted in known, field, f"is {wanted!r}", f"use one of {', '.join(known)}")
        return wanted
    found = next((name for name in usual if name in known), None)
    if found is None:
        raise ConfigError(field, "is not to be guessed", f"name it: the columns are {', '.join(known)}")
    return found


def _kind(dataset: "Dataset", answer: str) -> str:
    """The type that the first answers are of."""
    rows: list[Mapping[str, object]] = list(islice(iter(dataset), _SEEN))
    if all(_choices(row).options for row in rows):
        return "letter"
    answers = [_answer(row[answer], _Choices()) for row in rows]
    words = {text.casefold() for text in answers}
    if words <= _TRUTHS:
        return "boolean"
    if words <= _TRUTHS | {"yes", "no"}:
        return "yes_no"
    return "number" if all(read_number(text) is not None for text in answers) else "text"


class _Choices(NamedTuple):
    """What a row offers; none where it is no choice."""

    options: Sequence[str] = ()
    labels: Sequence[str] = ()
    """What the row calls them; they are shown as A, B, C, ..."""

    @property
    def listed(self) -> list[tuple[str, str]]:
        """Letters and options."""
        return [(_letter(place), option) for place, option in enumerate(self.options)]

    def letter(self, told: object) -> str | None:
        """That of the option that an answer names: by its place, its label, its text or its number."""
        text = str(told).strip()
        if text in self.labels:
            place = self.labels.index(text)
        elif isinstance(told, int):
            place = told
        elif text in self.options:
            place = self.options.index(text)
        elif re.fullmatch("[A-Z]", text):
            place = ord(text) - ord("A")
        else:
            place = int(text) - 1 if text.isdecimal() else -1
        return _letter(place) if 0 <= place < len(self.options) else None


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _choices(row: Mapping[str, object]) -> _Choices:
    """The options of a row: a list of texts, or ARC's {"label": [...], "text": [...]}."""
    told = row.get("choices")
    if isinstance(told, Mapping) and isinstance(told.get("text"), list):
        labels = told.get("label")
        return _Choices(list(map(str, told["text"])), list(map(str, labels)) if isinstance(labels, list) else ())
    return _Choices(list(map(str, told))) if isinstance(told, list) else _Choices()


def _answer(told: object, choices: _Choices) -> str:
    """The answer as text: what follows ####, yes or no for a truth value, the letter of an option."""
    if told is None:
        return ""
    if isinstance(told, bool):
        return "yes" if told else "no"
    text = _MARK.sub("", str(told)).strip()
    return choices.letter(told) or text
