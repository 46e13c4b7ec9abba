"""The results of a run: results.jsonl in its folder, to which a line is appended for each answered question.

Each line has a checksum. A damaged line is ignored, so that its question is answered again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from branchwise.core.durable import Line, read_lines, seal, sync_folder, write_atomically
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
        self.damaged = 0
        """Number of damaged lines in the file, which are ignored."""

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


def append_result(folder: Path, answered: Answered) -> None:
    """Append an answered question to the results in a folder and flush it to disk. Raises OSError."""
    with results_file(folder).open("ab") as lines:
        lines.write(seal(answered.model_dump_json()))
        lines.flush()
        os.fsync(lines.fileno())


def read_results(folder: Path) -> Sequence[Answered]:
    """Return the latest answers of the run in a folder. Raises ConfigError if they can't be read."""
    return load_results(folder, repair=False).answered


def load_results(folder: Path, *, repair: bool) -> Results:
    """Return the results of the run in a folder.

    Ignores an incomplete last line, which a killed run leaves, and damaged lines. `repair` removes both from the file
    and appends the damaged ones to results.jsonl.damaged. Raises ConfigError if the file can't be read or a line is
    of another version.
    """
    file = results_file(folder)
    results, end = Results(), 0
    damaged: list[Line] = []
    try:
        with file.open("rb") as lines:
            for line in read_lines(lines):
                end = line.offset + len(line.content) + 1
                answered = None if line.damaged else _parse(file, line)
                if answered is None:
                    damaged.append(line)
                else:
                    results.add(answered)
        if repair:
            _repair(file, end, damaged)
    except FileNotFoundError as error:
        raise ConfigError("out", f"{folder} holds no results", "name the folder of an evaluation") from error
    except OSError as error:
        raise ConfigError("out", f"cannot read {file} ({error.strerror})", "use another folder") from error
    results.damaged = len(damaged)
    return results


def _parse(file: Path, line: Line) -> Answered | None:
    """Return the answer on a line, or None if it is not JSON. Raises ConfigError for other JSON."""
    try:
        return Answered.model_validate_json(line.content)
    except ValidationError as error:
        if any(problem["type"] == "json_invalid" for problem in error.errors(include_url=False)):
            return None
        problem = f"{file}, line {line.number}, is not a result of this version"
        raise ConfigError("out", problem, "use another folder") from error


def _repair(file: Path, end: int, damaged: Sequence[Line]) -> None:
    """Truncate the file to `end` bytes, and move its damaged lines to another file."""
    if file.stat().st_size > end:
        os.truncate(file, end)
    if damaged:
        lost = {line.number for line in damaged}
        with file.with_name(file.name + ".damaged").open("ab") as kept:
            kept.writelines(line.content + b"\n" for line in damaged)
            kept.flush()
            os.fsync(kept.fileno())
        with file.open("rb") as lines:
            intact = [line for number, line in enumerate(lines, 1) if number not in lost]
        write_atomically(file, b"".join(intact))
    sync_folder(file.parent)
