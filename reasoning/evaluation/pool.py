"""A pool: what an earlier run recorded, to answer from instead of a model."""

from pathlib import Path

from branchwise.backends.base import Backend, Capabilities
from branchwise.backends.recorded.backend import RecordedBackend
from branchwise.backends.recorded.record import Record
from branchwise.core.errors import ConfigError, require
from branchwise.evaluation.journal import Journal, read_settings, record_file


class Pool:
    """The branches of every strategy of an earlier run."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where `folder` holds no run."""
        settings = read_settings(folder, "pool")
        if settings is None:
            raise ConfigError("pool", f"{folder} holds no run", "name the folder of an evaluation")
        self.folder, self.settings = folder, settings
        self._records = [Record(file) for file in sorted((folder / "branches").glob("*.jsonl"))]

    def records(self, strategy: str) -> list[Record]:
        """All of them, a strategy's own first: where rounding parted paths of one key, it has the one that it had."""
        own = record_file(self.folder, strategy)
        return sorted(self._records, key=lambda record: record.file != own)

    def check(self, seed: int, model: str | None, dtype: str | None) -> None:
        """Raises ConfigError where keys or tokens would be others than the pool's; None: as the pool has it."""
        was = self.settings
        require(seed == was.seed, "seed", f"is {seed}, the pool's is {was.seed}", f"use --seed {was.seed}")
        require(
            model in (None, was.model), "model", f"is {model}, the pool's is {was.model}", f"use --model {was.model}"
        )
        recorded = "chosen by the device" if was.dtype is None else was.dtype
        fix = "leave --dtype out" if was.dtype is None else f"use --dtype {was.dtype}"
        require(dtype in (None, was.dtype), "dtype", f"is {dtype}, the pool's is {recorded}", fix)


def recording(
    strategy: str, capabilities: Capabilities, backend: Backend | None, pool: Pool | None, journal: Journal | None
) -> Backend:
    """The backend a strategy is run on: what is in its own record or in the pool comes from there, the rest from
    `backend`, and is recorded in the journal."""
    if pool is None and journal is None:
        assert backend is not None
        return backend
    return RecordedBackend(
        capabilities,
        [] if pool is None else pool.records(strategy),
        inner=backend,
        into=None if journal is None else journal.branches(strategy),
    )
