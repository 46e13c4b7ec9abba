"""The manifest of a converted model: the sizes and digests of its files, by which a damaged one is found."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

_MANIFEST = "files.json"
_BLOCK = 1 << 16
_BLOCKS = 16  # of a file for its quick digest


class _File(BaseModel):
    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes."""
    quick: str
    """SHA-256 of 16 blocks of 64 KiB, from the first to the last one."""
    sha256: str


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    files: dict[str, _File]


def write_manifest(folder: Path) -> None:
    """Write the manifest of the files in a folder, and flush all of them to disk."""
    files = {file.name: _describe(file) for file in sorted(folder.iterdir()) if file.name != _MANIFEST}
    text = _Manifest(files=files).model_dump_json(indent=1)
    (folder / _MANIFEST).write_text(f"{text}\n", encoding="utf-8")
    for name in (*files, _MANIFEST):
        with (folder / name).open("ab") as file:
            os.fsync(file.fileno())


def find_damage(folder: Path, *, full: bool = False) -> str | None:
    """Return what is wrong with the first damaged file of a folder, or None.

    Compares sizes and quick digests; `full` compares the digests of whole files. Earlier versions wrote no manifest:
    only a full check refuses a folder without one.
    """
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return f"{_MANIFEST} is missing" if full else None
    try:
        files = _Manifest.model_validate_json(manifest.read_bytes()).files
    except (OSError, ValidationError):
        return f"{_MANIFEST} cannot be read"
    for name, expected in files.items():
        file = folder / name
        try:
            size = file.stat().st_size
            if size != expected.size:
                return f"{name} has {size:,} bytes instead of {expected.size:,}"
            if _quick(file, size) != expected.quick or (full and _sha256(file) != expected.sha256):
                return f"{name} has changed"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _describe(file: Path) -> _File:
    size = file.stat().st_size
    return _File(size=size, quick=_quick(file, size), sha256=_sha256(file))


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _quick(file: Path, size: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        for place in _places(size):
            content.seek(place)
            digest.update(content.read(_BLOCK))
    return digest.hexdigest()


def _places(size: int) -> Iterator[int]:
    """Yield the starts of the blocks; all of a small file."""
    if size <= _BLOCKS * _BLOCK:
        yield from range(0, size, _BLOCK)
        return
    for block in range(_BLOCKS):
        yield block * (size - _BLOCK) // (_BLOCKS - 1)
