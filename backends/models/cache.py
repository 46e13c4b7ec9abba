"""The folder in which fetched and converted models are kept."""

import os
import sys
from pathlib import Path


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
    """Whether a folder holds a model transformers can load."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
