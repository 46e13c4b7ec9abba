"""A run's folder: how it was set up, every branch as it ended and every question as it was answered."""

import fcntl
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import to_jsonable_python

from branchwise.backends.base import Capabilities
from branchwise.backends.recorded.record import Record
from branchwise.core.errors import ConfigError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.dataset import Row
from branchwise.strategies.strategy import AnyStrategy


class Settings(BaseModel):
    """What must be the same for a run to go on where it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    seed: int
    dtype: str | None
    capabilities: Capabilities
    """Of the backend, so that a record can stand in for it."""
    strategies: dict[str, dict[str, JsonValue]]
    """How each is configured."""
    verifier: str | None = None
    """What it is called."""
    budget_tokens: int | None = None
    """Of a question."""
    files: dict[str, str] = {}
    """Where the rows of each data set came from, by what results call it."""

    @classmethod
    def of(
        cls,
        model: str,
        seed: int,
        dtype: str | None,
        capabilities: Capabilities,
        strategies: Mapping[str, AnyStrategy],
        verifier: str | None = None,
        budget_tokens: int | None = None,
        files: Mapping[str, str] | None = None,
    ) -> "Settings":
        """As they are written."""
        configured = {name: {"kind": type(one).__name__, **_fields(one)} for name, one in strategies.items()}
        return cls(
            model=model,
            seed=seed,
            dtype=dtype,
            capabilities=capabilities,
            strategies=to_jsonable_python(configured),
            verifier=verifier,
            budget_tokens=budget_tokens,
            files=dict(files or {}),
        )


def _fields(strategy: AnyStrategy) -> dict[str, object]:
    """How a strategy is configured."""
    return asdict(strategy) if is_dataclass(strategy) else {"settings": repr(strategy)}


def record_file(folder: Path, strategy: str) -> Path:
    """Where a run's branches of a strategy are, called as it is; where it has options, by its beginning and a digest:
    they may be long, of any characters."""
    name = re.sub(r"[^\w.-]+", "-", strategy, flags=re.ASCII)
    if name != strategy:
        name = f"{name[:80]}-{hashlib.sha256(strategy.encode()).hexdigest()[:12]}"
    return folder / "branches" / f"{name}.jsonl"


def check_folder(folder: Path) -> None:
    """Raises ConfigError where a run can't be kept in `folder`: before the work, not after it."""
    try:
        (folder / "branches").mkdir(parents=True, exist_ok=True)
        (folder / "results.jsonl").open("a").close()
    except OSError as error:
        raise _unwritable(folder, error) from error


class Journal:
    """Opens a folder for one run at a time; `with` closes it.

    A folder that holds a run of other settings is refused; further strategies, files and rows may join.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Raises ConfigError where the folder can't be written, is in use or holds another run."""
        self.folder = folder
        self._lock: IO[str] | None = None
        check_folder(folder)
        try:
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("out", f"{folder} is in use by another run", "wait, or use another folder") from error
        except OSError as error:
            raise _unwritable(folder, error) from error
        self.settings = self._joined(settings)
        self._write(folder / "run.json", self.settings.model_dump_json(indent=1))
        self._answered = {_place(one): one for one in read_answered(folder, mend=True)}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def answered(self) -> Sequence[Answered]:
        """Every question, as it was answered last."""
        return list(self._answered.values())

    def branches(self, strategy: str) -> Record:
        """Where a strategy's branches are kept."""
        return Record(record_file(self.folder, strategy))

    def done(self, data: str, rows: Sequence[Row]) -> dict[tuple[str, str], str]:
        """The rows of one file that were answered before, by (strategy, id), and with which batch; one that failed was
        not, and is tried anew. Raises ConfigError where a row is not what it was then."""
        known = {row.id: row for row in rows}
        found = {}
        for one in self._answered.values():
            row = known.get(one.id) if one.data == data else None
            if row is None:
                continue
            same = (row.question, row.answer) == (one.question, one.reference) and one.row in ("", row.digest)
            if not same:
                raise ConfigError("out", f"{self.folder} holds another row {one.id} of {data}", "use another folder")
            if not one.failed:
                found[one.strategy, one.id] = one.batch
        return found

    def add(self, one: Answered) -> None:
        """Keep a question's answer. Raises ConfigError where it can't be written."""
        try:
            with (self.folder / "results.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(one.model_dump_json() + "\n")
                lines.flush()
                os.fsync(lines.fileno())
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        _replace(self._answered, one)

    def summarize(self, text: str) -> None:
        """Write summary.json."""
        self._write(self.folder / "summary.json", text)

    def _joined(self, settings: Settings) -> Settings:
        """The settings, with the strategies and files of an earlier run that this one goes on from."""
        kept = read_settings(self.folder)
        if kept is None:
            return settings
        was, now = kept.model_dump(mode="json"), settings.model_dump(mode="json")
        for name in ("model", "seed", "dtype", "capabilities", "verifier", "budget_tokens"):
            _compare(self.folder, name, was[name], now[name])
        for name, one in now["strategies"].items():
            _compare(self.folder, name, was["strategies"].get(name, one), one)
        for name, one in now["files"].items():
            _compare(self.folder, f"file {name}", was["files"].get(name, one), one)
        joined = {"strategies": kept.strategies | settings.strategies, "files": kept.files | settings.files}
        return settings.model_copy(update=joined)

    def _write(self, file: Path, text: str) -> None:
        """A file that appears whole or not at all."""
        partial = file.with_name(file.name + ".partial")
        try:
            partial.write_text(text + "\n", encoding="utf-8")
            os.replace(partial, file)
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def read_settings(folder: Path, field: str = "out") -> Settings | None:
    """A run's settings; None where the folder holds no run. Raises ConfigError, about the option `field`, where they
    can't be read."""
    file = folder / "run.json"
    try:
        return Settings.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(field, f"{file} can't be read as a run's settings", "use another folder") from error


def read_answered(folder: Path, *, mend: bool = False) -> Sequence[Answered]:
    """Every question a run answered, as it was answered last; a failure replaces no answer.

    A last line without an end, whose writer was killed, is none; with `mend` it is cut off. Raises ConfigError for any
    other line that can't be read.
    """
    file = folder / "results.jsonl"
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError("out", f"{folder} holds no results", "name the folder of an evaluation") from error
    except OSError as error:
        raise ConfigError("out", f"cannot read {file} ({error.strerror})", "use another folder") from error
    whole, _, rest = content.rpartition(b"\n")
    if rest and mend:
        with file.open("r+b") as lines:
            lines.truncate(len(content) - len(rest))
    found: dict[tuple[str, str, str], Answered] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            _replace(found, Answered.model_validate_json(line))
        except ValidationError as error:
            raise ConfigError(
                "out", f"{file}, line {number}, is no result of this version", "use another folder"
            ) from error
    return list(found.values())


def _place(one: Answered) -> tuple[str, str, str]:
    return one.data, one.strategy, one.id


def _replace(answered: dict[tuple[str, str, str], Answered], one: Answered) -> None:
    """Take in what a question came to, unless it failed where it was answered before.

    As part of another batch than before it is another answer, and so would those be that shared its paths: they go.
    """
    before = answered.get(_place(one))
    if before is not None and before.batch != one.batch:
        shared = [it for it in answered.values() if _batch(it) == _batch(before)]
        for it in shared:
            del answered[_place(it)]
    elif before is not None and one.failed:
        return
    answered[_place(one)] = one


def _batch(one: Answered) -> tuple[str, str, str]:
    return one.data, one.strategy, one.batch


def _compare(folder: Path, name: str, was: JsonValue, now: JsonValue) -> None:
    """Raises ConfigError naming the first field that is not the same."""
    if isinstance(was, dict) and isinstance(now, dict):
        for field in dict.fromkeys([*was, *now]):
            _compare(folder, f"{name}.{field}", was.get(field), now.get(field))
    elif was != now:
        raise ConfigError(
            "out", f"{folder} holds a run with another {name}: {was!r} there, {now!r} here", "use another folder"
        )


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError("out", f"cannot write in {folder} ({error.strerror})", "free some space, or use another one")
