"""Rows of Hugging Face datasets, from the hub or from a local folder in its format.

A source is `hf:OWNER/NAME`, `hf:OWNER/NAME/CONFIG` or `hf:FOLDER`, each with an optional `@SPLIT`. The default is the
first of test, validation and train that exists.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from branchwise.core.errors import ConfigError, MissingExtraError, require
from branchwise.evaluation.columns import RawRow

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "hf:"
_SPLITS = ("test", "validation", "train")


def is_hub(source: str) -> bool:
    """Return True if the source is a Hugging Face dataset."""
    return source.startswith(PREFIX)


def hub_name(source: str) -> str:
    """Return the name of a dataset in results: "gsm8k" for "hf:openai/gsm8k/main@test"."""
    path = source.removeprefix(PREFIX).partition("@")[0].rstrip("/")
    parts = path.split("/")
    return parts[-1] if os.path.exists(path) or len(parts) < 2 else parts[1]


def hub_rows(source: str) -> Iterator[RawRow]:
    """Yield the rows of a dataset.

    Raises ConfigError if the dataset or split does not exist; MissingExtraError without the extra `data`.
    """
    for index, fields in enumerate(_load(source)):
        yield RawRow(f"{source}, row {index}", fields)


def _load(source: str) -> "Dataset":
    try:
        from datasets import DatasetDict, load_dataset
    except ImportError as error:
        raise MissingExtraError(error.name or "datasets", "data") from error
    path, _, split = source.removeprefix(PREFIX).partition("@")
    config = None
    if not os.path.exists(path):
        owner, _, rest = path.partition("/")
        name, _, config_name = rest.partition("/")
        require(bool(owner and name), "data", f"{source} names no dataset", "write hf:OWNER/NAME or hf:FOLDER")
        path, config = f"{owner}/{name}", config_name or None
    try:
        loaded: DatasetDict | Dataset = load_dataset(path, config)
    except Exception as error:  # network errors, the hub's refusals and invalid datasets have no common class
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError("data", f"{source} can't be loaded ({reason})", "check the name and the network") from error
    if not isinstance(loaded, DatasetDict):
        raise ConfigError("data", f"{source} has no splits", "use a dataset of rows")
    chosen = split or next((name for name in _SPLITS if name in loaded), next(iter(loaded)))
    require(chosen in loaded, "data", f"{source} has no split {chosen}", f"use one of {', '.join(loaded)}")
    return loaded[chosen]
