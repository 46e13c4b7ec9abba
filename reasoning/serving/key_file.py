"""A file of API keys and their quotas, read again when it changes.

[alice]
key = "sk-..."
requests_per_minute = 60
tokens_per_minute = 100000
questions = 4
"""

import logging
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from branchwise.core.errors import ConfigError, require
from branchwise.serving.access import APIKeys
from branchwise.serving.clients import Client, Quota

_CHECK_SECONDS = 1.0
_QUOTAS = ("requests_per_minute", "tokens_per_minute", "questions")

log = logging.getLogger("branchwise.server")


class KeyFile:
    """The keys of a file. A file that has become invalid is logged, and the keys stay as they were."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file. Raises ConfigError if it is missing or invalid."""
        self._path = path
        self._clock = clock
        self._keys = _read(path)
        self._version = _version(path)
        self._checked = clock()

    def accept(self, authorization: str | None) -> Client | None:
        """Return the owner of the key in an Authorization header; None for any other header."""
        if self._clock() >= self._checked + _CHECK_SECONDS:
            self._checked = self._clock()
            self._refresh()
        return self._keys.accept(authorization)

    def _refresh(self) -> None:
        version = _version(self._path)
        if version != self._version:
            self._version = version
            try:
                self._keys = _read(self._path)
            except ConfigError as error:
                log.error("the keys stay as they were: %s", error)


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> APIKeys:
    try:
        entries = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("keys_file", f"{path} cannot be read ({error})", "give a TOML file") from error
    keys: dict[str, Client] = {}
    for name, entry in entries.items():
        place = f"keys_file: {path}, [{name}]"
        require(isinstance(entry, dict) and isinstance(entry.get("key"), str), place, "has no key", 'add key = "..."')
        unknown = entry.keys() - {"key", *_QUOTAS}
        require(not unknown, place, f"has {', '.join(sorted(unknown))}", f"use key, {', '.join(_QUOTAS)}")
        require(entry["key"] not in keys, place, "has the key of another entry", "give every client its own")
        try:
            keys[entry["key"]] = Client(name, Quota(*(entry.get(quota) for quota in _QUOTAS)))
        except ConfigError as error:
            raise error.renamed(f"{place}, {error.field}") from error
    return APIKeys(keys)
