"""Files that survive a power cut: JSON lines with a checksum, and writes that reach the disk.

The results of an evaluation and the records of branches use them.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zlib import crc32

_SEAL = re.compile(rb', "crc32": "([0-9a-f]{8})"\}')
_SEAL_BYTES = len(b', "crc32": "01234567"}')


class Line(NamedTuple):
    """A complete line of a file."""

    number: int
    """Counted from 1."""
    offset: int
    """Place of its first byte in the file."""
    content: bytes
    """Without the line feed."""
    damaged: bool
    """True if the checksum is wrong, or missing after a line that has one. Files of earlier versions have none."""


def seal(json_object: str) -> bytes:
    """Return the line for a JSON object that is not empty, with its checksum as the last member, `crc32`."""
    content = json_object.removesuffix("}").encode()
    return b'%s, "crc32": "%08x"}\n' % (content, crc32(content))


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the complete lines. Text after the last line feed, whose writer was killed, is left out."""
    offset, sealed = 0, False
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        content = line[:-1]
        match = _SEAL.fullmatch(content[-_SEAL_BYTES:])
        damaged = sealed if match is None else int(match[1], 16) != crc32(content[:-_SEAL_BYTES])
        sealed = sealed or match is not None
        yield Line(number, offset, content, damaged)
        offset += len(line)


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file through `file.partial`: it is complete or unchanged, also after a power cut. Raises OSError."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as out:
        out.write(content)
        out.flush()
        with suppress(OSError):  # what a link names, such as a device, may not support it
            os.fsync(out.fileno())
    os.replace(partial, file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names of the files in a folder to disk, where the system can do so."""
    with suppress(OSError):  # Windows opens no folders
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
