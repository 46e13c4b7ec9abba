"""The manifest of a converted model."""

import os
from pathlib import Path

import pytest

from branchwise.backends.models.manifest import find_damage, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "model.safetensors").write_bytes(os.urandom(5_000_000))
    write_manifest(tmp_path)
    return tmp_path


def change(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def test_an_unchanged_folder_is_intact(folder: Path) -> None:
    assert find_damage(folder) is find_damage(folder, full=True) is None
    (folder / "notes.txt").write_text("of the user")
    assert find_damage(folder, full=True) is None


@pytest.mark.parametrize("place", [0, 70_000 // 2, 2_500_000 // 15, -1])
def test_changed_bytes_are_found(place: int, folder: Path) -> None:
    change(folder / "model.safetensors", place)
    assert find_damage(folder, full=True) == "model.safetensors has changed"
    if place in (0, 35_000, -1):  # in a block that is always compared
        assert find_damage(folder) == "model.safetensors has changed"


def test_a_byte_between_the_blocks_is_found_by_a_full_check(folder: Path) -> None:
    change(folder / "model.safetensors", 200_000)
    assert find_damage(folder) is None
    assert find_damage(folder, full=True) == "model.safetensors has changed"


def test_other_damage_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{ }")
    assert find_damage(folder) == "config.json has 3 bytes instead of 2"
    (folder / "config.json").unlink()
    assert find_damage(folder) == "config.json cannot be read (No such file or directory)"
    for broken in (b"", b"{}", b'{"files": {"a": 1}}', b"\xff\x00"):
        (folder / "files.json").write_bytes(broken)
        assert find_damage(folder) == "files.json cannot be read"


def test_a_folder_without_a_manifest_passes_no_full_check(folder: Path) -> None:
    (folder / "files.json").unlink()
    assert find_damage(folder) is None
    assert find_damage(folder, full=True) == "files.json is missing"
