"""A record: what a model drew and scored, line by line in a file, found again by name."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from branchwise.core.errors import ConfigError
from branchwise.core.path import StopReason
from branchwise.core.usage import Usage


class Drawn(BaseModel):
    """One branch of a request, from its first token to its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[int, ...]
    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] | None
    """[tokens, alternatives] token ids and their log-probabilities in nats."""
    alternatives: int
    """How many were asked for; a backend may report fewer."""
    stop_reason: StopReason
    trimmed: str
    cost: Usage


class Prompted(BaseModel):
    """A prompt's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[int, ...]
    refused: tuple[str, str, str] | None = None
    """A ConfigError's field, problem and fix, where the prompt was none."""


class Spelled(BaseModel):
    """The tokens of a text that was written in the model's place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[int, ...]
    ends: tuple[int, ...]


class ScoredTexts(BaseModel):
    """[continuations][tokens] log-probabilities in nats, and what they cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    logprobs: tuple[tuple[float, ...], ...]
    cost: Usage


_NAMED = re.compile(rb'\{"name": "([!#-~]+)"')  # the rest of a line is read when it is asked for
Entry = TypeVar("Entry", bound=BaseModel)


class Record:
    """Entries in a file of JSON Lines, one a line, each named once. They are read when they are asked for: only their
    names and places are held.

    A last line without an end (its writer was killed) is no entry, and is cut off when more is written.
    """

    def __init__(self, file: Path) -> None:
        """The record in `file`, empty where there is none. Raises ConfigError for a file that is no record."""
        self.file = file
        self._places: dict[str, int] = {}
        self._end = 0  # of the last whole line, in bytes
        for name, place, end in self._lines():
            self._places[name] = place
            self._end = end

    def __len__(self) -> int:
        return len(self._places)

    def get(self, name: str, kind: type[Entry]) -> Entry | None:
        """The entry of that name. Raises ConfigError where its line is damaged."""
        if (place := self._places.get(name)) is None:
            return None
        try:
            with self.file.open("rb") as lines:
                lines.seek(place)
                return kind.model_validate(json.loads(lines.readline())["entry"])
        except OSError as error:
            raise ConfigError("record", f"cannot read {self.file} ({error.strerror})", "use another folder") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                "record", f"{self.file}: the line of {name} is damaged", "delete it: what it held is drawn anew"
            ) from error

    def put(self, name: str, entry: BaseModel) -> None:
        """Add an entry; one that is there stays. Raises ConfigError where it can't be written."""
        if name in self._places:
            return
        line = json.dumps({"name": name, "entry": entry.model_dump(mode="json")}, ensure_ascii=False).encode() + b"\n"
        try:
            if self.file.exists() and self.file.stat().st_size > self._end:
                os.truncate(self.file, self._end)
            with self.file.open("ab") as lines:
                lines.write(line)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError(
                "record", f"cannot write {self.file} ({why})", "free some space or use another"
            ) from error
        self._places[name], self._end = self._end, self._end + len(line)

    def _lines(self) -> Iterator[tuple[str, int, int]]:
        """Every whole line: its entry's name, where it begins and where it ends."""
        if not self.file.exists():
            return
        place = 0
        try:
            with self.file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n"):
                        return
                    if (named := _NAMED.match(line)) is None:
                        problem = f"{self.file}, line {number}, is no entry"
                        raise ConfigError("record", problem, "delete it: what it held is drawn anew")
                    yield named.group(1).decode(), place, place + len(line)
                    place += len(line)
        except OSError as error:
            raise ConfigError("record", f"cannot read {self.file} ({error.strerror})", "use another folder") from error
