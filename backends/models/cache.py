"""The folder in which fetched and converted models are kept."""

import errno
import json
import os
import re
import sys
from pathlib import Path

from branchwise.core.errors import ModelError

# What writing fails with where there is no room, or no leave.
_DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST")
    if hasattr(errno, name)
)


def cache_folder() -> Path:
    """BRANCHWISE_CACHE, or `branchwise` in the user's cache directory."""
    if chosen := os.environ.get("BRANCHWISE_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "branchwise"


def model_folder(name: str) -> Path:
    """Where the converted model called `name` is kept."""
    return cache_folder() / "models" / name


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model transformers can load, and all of it: a download that was interrupted
    leaves weights out."""
    if not os.path.isfile(folder / "config.json"):  # unlike the method, False for names that are too long
        return False
    for weights, listed in (
        ("*.safetensors", "model.safetensors.index.json"),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        index = folder / listed
        if index.is_file():
            if all((folder / file).is_file() for file in _listed(index)):
                return True
        elif any(folder.glob(weights)):
            return True
    return False


def _listed(index: Path) -> set[str]:
    """The weight files that an index names; where it can't be read, one that no folder has."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return {"the index is broken"}


def is_disk_error(error: Exception) -> bool:
    """Whether an error says that a file could not be written."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_ERRORS
    found = re.search(r"(?:\(os error |\[Errno )(\d+)[\])]", str(error))  # of safetensors; of pip
    return found is not None and int(found[1]) in _DISK_ERRORS


def unwritable(folder: Path, reason: str, variable: str = "BRANCHWISE_CACHE") -> ModelError:
    """The error for a folder that cannot be written; `variable` of the environment names another."""
    return ModelError(
        f"cannot write to {folder} ({reason})",
        f"free some disk space, or point {variable} at a folder you may write to",
    )
