"""Where models come from: folders, GGUF files, the cache, names; see the packages and the hub beside."""

import os
import resource
import shutil
from pathlib import Path

import pytest

from branchwise.backends.models.cache import cache_folder, is_model, model_folder
from branchwise.backends.models.catalog import CATALOG, find
from branchwise.backends.models.packages import fetch_gguf
from branchwise.backends.models.resolve import resolve
from branchwise.core.errors import ModelError
from tests.support.wheels import entry, files, quiet, without_hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot write to .*BRANCHWISE_CACHE"):
        fetch_gguf(entry(), tmp_path / "file" / "downloads", quiet)
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write to .*BRANCHWISE_CACHE"):
        resolve(str(tiny_gguf), quiet)


def test_a_folder_is_taken_as_it_is(tiny_model_folder: Path) -> None:
    assert resolve(str(tiny_model_folder), quiet) == tiny_model_folder


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds no weights; give one with config\.json"):
        resolve(str(tmp_path), quiet)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2-135m-instrct", r"unknown; did you mean SmolLM2-135M-Instruct\?"),
        ("qwem", r"unknown; did you mean Qwen2.5-Coder-0.5B-Instruct\?"),
        ("Qwen/Qwen2.5-Coder-0.5B-Instrct", "not cached .* or use Qwen2.5-Coder-0.5B-Instruct, which"),
        ("", "unknown; use a local folder"),
        ("a" * 5000, "unknown; use a local folder"),
        ("~nobody-has-this/x", "unknown; use a local folder"),
        (__file__, "is a file; give the folder"),
        ("nothing like it", "unknown; use a local folder"),
        ("/no/such/folder", "unknown; use a local folder"),
        ("./no/such.gguf", "unknown; use a local folder"),
    ],
)
def test_a_name_nobody_knows_gets_advice(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hub(monkeypatch, tmp_path)
    with pytest.raises(ModelError, match=message):
        resolve(name, quiet)


def test_a_gguf_file_is_converted_once_and_again_when_it_changed(tiny_gguf: Path, tmp_path: Path, cache: Path) -> None:
    one, other = tmp_path / "a" / "tiny.gguf", tmp_path / "b" / "tiny.gguf"
    for file in (one, other):
        file.parent.mkdir()
        shutil.copy2(tiny_gguf, file)
    first = resolve(str(one), quiet)
    stamp = (first / "config.json").stat().st_mtime_ns
    assert resolve(str(one.parent), quiet) == first  # a folder with one GGUF file
    assert (first / "config.json").stat().st_mtime_ns == stamp
    assert resolve(str(other), quiet) != first  # same name, size and time, another file
    os.utime(one, ns=(0, 1))
    assert resolve(str(one), quiet) != first


@pytest.mark.parametrize("size", [0, 104, 4000, 60_000])
def test_a_broken_gguf_file_is_one_clear_error_and_leaves_nothing(
    size: int, tiny_gguf: Path, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "broken.gguf").write_bytes(tiny_gguf.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cannot convert broken\.gguf") as caught:
        resolve(str(tmp_path / "broken.gguf"), quiet)
    assert "\n" not in str(caught.value)
    assert files(cache) == []


def test_no_room_for_the_converted_model_is_one_clear_error(tiny_gguf: Path, cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ModelError, match=r"cannot write to .*free some disk space, or point BRANCHWISE_CACHE"):
            resolve(str(tiny_gguf), quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(cache) == []


def test_a_folder_with_several_gguf_files_is_not_guessed_at(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="holds several GGUF files; name one of them"):
        resolve(str(tmp_path), quiet)


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert not is_model(model_folder("SmolLM2-135M-Instruct"))
    monkeypatch.delenv("BRANCHWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "branchwise"


def test_the_catalogue_is_whole() -> None:
    for known in CATALOG:
        assert find(known.name.upper()) is known
        assert find(known.hub_id) is known
        assert len(known.sha256) == 64
        assert len({part.package for part in known.parts}) == len(known.parts)
