"""The folder of converted models: its place, its locks and the check for complete models."""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from branchwise.backends.cache_folder import cache_folder
from branchwise.core.errors import ModelError

# Errors of a write that fails because the disk is full or the folder is read-only.
_DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST")
    if hasattr(errno, name)
)


class CachedModel(NamedTuple):
    """A model on this machine that loads by name, without a network."""

    name: str
    folder: Path
    size: int
    """Bytes on disk."""


def models_folder() -> Path:
    """Return the folder that holds one folder for each converted model."""
    return cache_folder() / "models"


def model_folder(name: str) -> Path:
    """Return the folder of the converted model called `name`, which need not exist."""
    return models_folder() / name


def converted_models() -> list[CachedModel]:
    """Return the complete models of the cache, by name."""
    folder = models_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [CachedModel(one.name, one, _size(one)) for one in found if is_model(one) and one.suffix != ".partial"]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def is_model(folder: Path) -> bool:
    """Return True for a folder with a configuration and all weight files: interrupted downloads lack some."""
    if not os.path.isfile(folder / "config.json"):  # unlike Path.is_file, False for names that are too long
        return False
    for weights, index_name in (
        ("*.safetensors", "model.safetensors.index.json"),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        index = folder / index_name
        if index.is_file():
            if _has_indexed_weights(index):
                return True
        elif any(folder.glob(weights)):
            return True
    return False


def _has_indexed_weights(index: Path) -> bool:
    """Return True if every weight file that the index names exists; False for an index that cannot be read."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((index.parent / name).is_file() for name in names)
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False


@contextmanager
def exclusive_lock(file: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock `file` against other processes. Call `on_wait` first if another process holds it.

    The lock file stays behind: deleting it would let two processes lock different files of one name.
    Raises ModelError if the file cannot be created.
    """
    from filelock import FileLock, Timeout  # here: `import branchwise` brings in pydantic alone

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise unwritable(file.parent, error.strerror or str(error)) from error
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_disk_error(error: Exception) -> bool:
    """Return True for an error that says that a file could not be written."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_ERRORS
    found = re.search(r"(?:\(os error |\[Errno )(\d+)[\])]", str(error))  # as safetensors and pip write it
    return found is not None and int(found[1]) in _DISK_ERRORS


def unwritable(folder: Path, reason: str, variable: str = "BRANCHWISE_CACHE") -> ModelError:
    """Return the error for a folder that cannot be written; the environment variable `variable` names another."""
    return ModelError(
        f"cannot write to {folder} ({reason})",
        f"free some disk space, or point {variable} at a folder you may write to",
    )
