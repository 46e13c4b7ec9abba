"""The folder of a run: its settings, every sampled branch, every answered question and the summary.

run.json         settings.py: the settings that must not change
branches/        a record of the sampled branches per strategy, which a backend can replay
results.jsonl    results.py: the answered questions; damaged lines are moved to results.jsonl.damaged
summary.json     written last
lock             held while a run is in progress
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from branchwise.backends.recorded.record import Record
from branchwise.core.durable import write_atomically
from branchwise.core.errors import ConfigError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.results import append_result, load_results, results_file
from branchwise.evaluation.row import Row
from branchwise.evaluation.settings import RunSettings, read_settings

_BRANCHES = "branches"
_NAME_CHARS = 80  # of a strategy's name in a file name


class Journal:
    """The open folder of a run. Use it as a context manager; only one process at a time can open a folder.

    A folder with a run of other settings is rejected. Further strategies, data sets and rows may be added to a run.
    """

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        """Open the folder. Raises ConfigError if it can't be written, is in use or contains another run."""
        self.folder = folder
        check_folder(folder)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError("out", f"{folder} is in use by another run", "wait, or use another folder") from error
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            earlier = read_settings(folder)
            self.settings = settings if earlier is None else settings.merge(earlier, folder)
            self._write(folder / "run.json", self.settings.model_dump_json(indent=1))
            self._results = load_results(folder, repair=True)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def answered(self) -> Sequence[Answered]:
        """The latest answer to every question."""
        return self._results.answered

    @property
    def damaged(self) -> int:
        """Number of damaged lines that were moved out of results.jsonl."""
        return self._results.damaged

    def branches(self, strategy: str) -> Record:
        """Return the record of a strategy's branches."""
        return Record(record_file(self.folder, strategy))

    def done(self, data: str, rows: Sequence[Row]) -> Mapping[tuple[str, str], str]:
        """Return the batch of each row of a data set that is answered, by (strategy, id); failed rows are left out.

        Raises ConfigError if a row differs from the one that was answered.
        """
        rows_by_id = {row.id: row for row in rows}
        batches: dict[tuple[str, str], str] = {}
        for answered in self.answered:
            row = rows_by_id.get(answered.id) if answered.data == data else None
            if row is None:
                continue
            if not answered.is_for(row):
                problem = f"{self.folder} holds another row {answered.id} of {data}"
                raise ConfigError("out", problem, "use another folder")
            if not answered.failed:
                batches[answered.strategy, answered.id] = answered.batch
        return batches

    def add(self, answered: Answered) -> None:
        """Append an answered question and flush it to disk. Raises ConfigError if it can't be written."""
        try:
            append_result(self.folder, answered)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self._results.add(answered)

    def write_summary(self, text: str) -> None:
        """Write summary.json. Raises ConfigError if it can't be written."""
        self._write(self.folder / "summary.json", text)

    def _write(self, file: Path, text: str) -> None:
        """Write a file atomically: it is complete or unchanged."""
        try:
            write_atomically(file, f"{text}\n".encode())
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def check_folder(folder: Path) -> None:
    """Create the folder of a run. Raises ConfigError if it can't be written, before the model runs."""
    try:
        (folder / _BRANCHES).mkdir(parents=True, exist_ok=True)
        results_file(folder).open("a").close()
    except OSError as error:
        raise _unwritable(folder, error) from error


def record_file(folder: Path, strategy: str) -> Path:
    """Return the file with a strategy's branches.

    It is named after the strategy. A name with options, which may be long and contain any characters, is shortened and
    made unique with a digest.
    """
    name = re.sub(r"[^\w.-]+", "-", strategy, flags=re.ASCII)
    if name != strategy:
        name = f"{name[:_NAME_CHARS]}-{hashlib.sha256(strategy.encode()).hexdigest()[:12]}"
    return folder / _BRANCHES / f"{name}.jsonl"


def record_files(folder: Path) -> Sequence[Path]:
    """Return the files with the branches of all strategies of a run, sorted by name."""
    return sorted((folder / _BRANCHES).glob("*.jsonl"))


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError("out", f"cannot write in {folder} ({error.strerror})", "free some space, or use another one")
