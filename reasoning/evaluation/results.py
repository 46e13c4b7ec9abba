"""The results of a run: results.jsonl in its folder, to which a line is appended for each answered question."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from branchwise.core.errors import ConfigError
from branchwise.evaluation.answered import Answered


class QuestionKey(NamedTuple):
    """Identifies one question under one strategy."""

    data: str
    strategy: str
    id: str


class Results:
    """The latest answer to each question. A failure replaces no answer."""

    def __init__(self) -> None:
        self._latest: dict[QuestionKey, Answered] = {}

    @property
    def answered(self) -> Sequence[Answered]:
        """Latest answers, in the order of the first ones."""
        return list(self._latest.values())

    def add(self, answered: Answered) -> None:
        """Add an answer.

        An answer from another batch than before invalidates the other answers of the earlier batch, which shared its
        paths: they are removed.
        """
        key = QuestionKey(answered.data, answered.strategy, answered.id)
        before = self._latest.get(key)
        if before is not None and before.batch != answered.batch:
            shared = (before.data, before.strategy, before.batch)
            self._latest = {
                other_key: other
                for other_key, other in self._latest.items()
                if (other.data, other.strategy, other.batch) != shared
            }
        elif before is not None and answered.failed:
            return
        self._latest[key] = answered


def results_file(folder: Path) -> Path:
    """Return the file with the results of the run in a folder."""
    return folder / "results.jsonl"


def read_results(folder: Path) -> Sequence[Answered]:
    """Return the latest answers of the run in a folder. Raises ConfigError if they can't be read."""
    return load_results(folder, repair=False).answered


def load_results(folder: Path, *, repair: bool) -> Results:
    """Return the results of the run in a folder.

    Ignores an incomplete last line, which a killed run leaves; `repair` removes it from the file. Raises ConfigError if
    the file or a complete line can't be read.
    """
    file = results_file(folder)
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError("out", f"{folder} holds no results", "name the folder of an evaluation") from error
    except OSError as error:
        raise ConfigError("out", f"cannot read {file} ({error.strerror})", "use another folder") from error
    complete, _, incomplete = content.rpartition(b"\n")
    if incomplete and repair:
        with file.open("r+b") as lines:
            lines.truncate(len(content) - len(incomplete))
    results = Results()
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            results.add(Answered.model_validate_json(line))
        except ValidationError as error:
            problem = f"{file}, line {number}, is not a result of this version"
            raise ConfigError("out", problem, "use another folder") from error
    return results
