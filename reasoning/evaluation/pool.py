"""A pool: the recorded branches of an earlier run, from which other strategies are answered without a model."""

from collections.abc import Sequence
from pathlib import Path

from branchwise.backends.base import Backend, Capabilities
from branchwise.backends.recorded.backend import RecordedBackend
from branchwise.backends.recorded.record import Record
from branchwise.core.errors import ConfigError, require
from branchwise.evaluation.journal import Journal, record_file, record_files
from branchwise.evaluation.settings import read_settings


class Pool:
    """The recorded branches of all strategies of a run."""

    def __init__(self, folder: Path) -> None:
        """Open the records. Raises ConfigError if the folder contains no run."""
        settings = read_settings(folder, "pool")
        if settings is None:
            raise ConfigError("pool", f"{folder} holds no run", "name the folder of an evaluation")
        self.folder = folder
        self.settings = settings
        self._records = [Record(file) for file in record_files(folder)]

    def records(self, strategy: str) -> Sequence[Record]:
        """Return all records, that of the strategy itself first.

        Rounding can give two strategies different tokens for the same key; a strategy replays its own.
        """
        own = record_file(self.folder, strategy)
        return sorted(self._records, key=lambda record: record.file != own)

    def check(self, seed: int, model: str | None, dtype: str | None) -> None:
        """Raise ConfigError if a setting differs from the pool's; its branches would not apply. None matches any."""
        pool = self.settings
        require(seed == pool.seed, "seed", f"is {seed}, the pool's is {pool.seed}", f"use --seed {pool.seed}")
        require(
            model in (None, pool.model),
            "model",
            f"is {model}, the pool's is {pool.model}",
            f"use --model {pool.model}",
        )
        recorded = "the device's default" if pool.dtype is None else pool.dtype
        fix = "leave --dtype out" if pool.dtype is None else f"use --dtype {pool.dtype}"
        require(dtype in (None, pool.dtype), "dtype", f"is {dtype}, the pool's is {recorded}", fix)


def replay_and_record(
    strategy: str, capabilities: Capabilities, backend: Backend | None, pool: Pool | None, journal: Journal | None
) -> Backend:
    """Return the backend for a strategy: replays branches from the journal and the pool, samples others on `backend`.

    New branches are recorded in the journal. `backend` may be None if there is a pool.
    """
    if pool is None and journal is None:
        assert backend is not None
        return backend
    return RecordedBackend(
        capabilities,
        [] if pool is None else pool.records(strategy),
        inner=backend,
        into=None if journal is None else journal.branches(strategy),
    )
