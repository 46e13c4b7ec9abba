"""File of recorded prompts, branches and scores, each found by name. The backend beside it replays them."""

import json
import os
import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from branchwise.core.durable import read_lines, seal, sync_folder
from branchwise.core.errors import ConfigError
from branchwise.core.path import StopReason
from branchwise.core.usage import Usage


class RecordedBranch(BaseModel):
    """One branch of a request, from its first token to its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[int, ...]
    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] | None
    """[tokens, alternatives] token ids and their log-probabilities in nats."""
    alternatives: int
    """Number of requested alternatives. The backend may have returned fewer."""
    stop_reason: StopReason
    trimmed: str
    cost: Usage


class RecordedPrompt(BaseModel):
    """Tokens of a prompt, or the error that refused it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[int, ...]
    refused: tuple[str, str, str] | None = None
    """Field, problem and fix of the ConfigError; None for an accepted prompt."""


class RecordedText(BaseModel):
    """Tokens of a text that was appended to a path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[int, ...]
    ends: tuple[int, ...]


class RecordedScores(BaseModel):
    """Log-probabilities of continuations, and the usage of computing them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    logprobs: tuple[tuple[float, ...], ...]
    """[continuations][tokens], nats."""
    cost: Usage


_NAME = re.compile(rb'\{"name": "([!#-~]+)"')  # the rest of a line is parsed on access
Entry = TypeVar("Entry", bound=BaseModel)


class Record:
    """A JSON Lines file with one named entry a line. Only names and offsets are in memory.

    Each line has a checksum. A damaged line is ignored, so that its entry is sampled again. A last line without a line
    feed, whose writer was killed, is ignored and truncated at the next write.
    """

    def __init__(self, file: Path) -> None:
        """Open the record in `file`, which need not exist. Raises ConfigError if the file is not a record."""
        self.file = file
        self._offsets: dict[str, int] = {}
        self._end = 0
        """End of the last complete line, bytes."""
        self._synced = True
        self._open()

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, name: str, kind: type[Entry]) -> Entry | None:
        """Return the entry of that name, or None. Raises ConfigError if it is of another kind."""
        if (offset := self._offsets.get(name)) is None:
            return None
        try:
            with self.file.open("rb") as lines:
                lines.seek(offset)
                line = lines.readline()
        except OSError as error:
            raise ConfigError("record", f"cannot read {self.file} ({error.strerror})", "use another folder") from error
        try:
            entry = json.loads(line)["entry"]
        except (ValueError, KeyError):  # the first line of a file may have lost its checksum
            del self._offsets[name]
            return None
        try:
            return kind.model_validate(entry)
        except ValidationError as error:
            problem = f"{self.file}: the line of {name} is of another version"
            raise ConfigError("record", problem, "delete it: its entry is then sampled again") from error

    def put(self, name: str, entry: BaseModel) -> None:
        """Append an entry, unless there is one of that name. Raises ConfigError if it cannot be written."""
        if name in self._offsets:
            return
        line = seal(json.dumps({"name": name, "entry": entry.model_dump(mode="json")}, ensure_ascii=False))
        try:
            if self.file.exists() and self.file.stat().st_size > self._end:
                os.truncate(self.file, self._end)
            with self.file.open("ab") as lines:
                lines.write(line)
        except OSError as error:
            raise self._unwritable(error) from error
        self._offsets[name] = self._end
        self._end += len(line)
        self._synced = False

    def sync(self) -> None:
        """Flush new entries to disk. Raises ConfigError if that fails."""
        if self._synced:
            return
        try:
            with self.file.open("ab") as lines:
                os.fsync(lines.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        sync_folder(self.file.parent)
        self._synced = True

    def _open(self) -> None:
        """Read the name and the offset of every complete line."""
        if not self.file.exists():
            return
        try:
            with self.file.open("rb") as lines:
                for line in read_lines(lines):
                    self._end = line.offset + len(line.content) + 1
                    if line.damaged:
                        continue
                    if (match := _NAME.match(line.content)) is None:
                        problem = f"{self.file}, line {line.number}, is not an entry of a record"
                        raise ConfigError("record", problem, "delete it: its entry is then sampled again")
                    self._offsets[match.group(1).decode()] = line.offset
        except OSError as error:
            raise ConfigError("record", f"cannot read {self.file} ({error.strerror})", "use another folder") from error

    def _unwritable(self, error: OSError) -> ConfigError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return ConfigError("record", f"cannot write {self.file} ({reason})", "free some space or use another file")
