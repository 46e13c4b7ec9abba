"""Names, folders, GGUF files and the cache of converted models."""

import os
import resource
import shutil
from pathlib import Path

import pytest

from branchwise.backends.cache_folder import cache_folder
from branchwise.backends.models.cache import converted_models, exclusive_lock, is_model, model_folder
from branchwise.backends.models.names import HUB_IDS, short_name
from branchwise.backends.models.progress import no_progress
from branchwise.backends.models.resolve import resolve
from branchwise.core.errors import ModelError
from tests.support.files import list_files
from tests.support.hub import hide_hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty cache."""
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ModelError, match=r"cannot write to .*BRANCHWISE_CACHE"),
        exclusive_lock(tmp_path / "file" / "models" / "x.lock", lambda: None),
    ):
        pass
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write to .*BRANCHWISE_CACHE"):
        resolve(str(tiny_gguf), no_progress)


def test_a_model_folder_is_used_in_place(tiny_model_folder: Path) -> None:
    assert resolve(str(tiny_model_folder), no_progress) == tiny_model_folder


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds no weights; give one with config\.json"):
        resolve(str(tmp_path), no_progress)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2-135m-instrct", r"unknown; did you mean SmolLM2-135M-Instruct\?"),
        ("qwem", r"unknown; did you mean Qwen2.5-Coder-0.5B-Instruct\?"),
        ("Qwen/Qwen2.5-Coder-0.5B-Instrct", "not cached and the model hub cannot be reached; connect, or give a local"),
        ("", "unknown; use a local folder"),
        ("a" * 5000, "unknown; use a local folder"),
        ("~nobody-has-this/x", "unknown; use a local folder"),
        (__file__, "is a file; give the folder"),
        ("nothing like it", "unknown; use a local folder"),
        ("/no/such/folder", "unknown; use a local folder"),
        ("./no/such.gguf", "unknown; use a local folder"),
    ],
)
def test_an_unknown_name_gets_advice(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_hub(monkeypatch, tmp_path)
    with pytest.raises(ModelError, match=message):
        resolve(name, no_progress)


def test_a_gguf_file_is_converted_once_and_again_if_it_changes(tiny_gguf: Path, tmp_path: Path, cache: Path) -> None:
    one, other = tmp_path / "a" / "tiny.gguf", tmp_path / "b" / "tiny.gguf"
    for file in (one, other):
        file.parent.mkdir()
        shutil.copy2(tiny_gguf, file)
    first = resolve(str(one), no_progress)
    stamp = (first / "config.json").stat().st_mtime_ns
    assert resolve(str(one.parent), no_progress) == first  # a folder with one GGUF file
    assert (first / "config.json").stat().st_mtime_ns == stamp
    assert resolve(str(other), no_progress) != first  # another file of the same name, size and time
    os.utime(one, ns=(0, 1))
    assert resolve(str(one), no_progress) != first


@pytest.mark.parametrize("size", [0, 104, 4000, 60_000])
def test_a_broken_gguf_file_is_one_clear_error(size: int, tiny_gguf: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(tiny_gguf.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cannot convert broken\.gguf") as caught:
        resolve(str(tmp_path / "broken.gguf"), no_progress)
    assert "\n" not in str(caught.value)
    assert list_files(cache) == []


def test_a_disk_too_small_for_the_model_is_one_clear_error(tiny_gguf: Path, cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ModelError, match=r"cannot write to .*free some disk space, or point BRANCHWISE_CACHE"):
            resolve(str(tiny_gguf), no_progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list_files(cache) == []


def test_a_folder_with_several_gguf_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="holds several GGUF files; name one of them"):
        resolve(str(tmp_path), no_progress)


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert not is_model(model_folder("SmolLM2-135M-Instruct"))


def test_the_default_cache_folder_follows_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRANCHWISE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "branchwise"


def test_a_cached_model_is_found_by_its_name_and_listed(tiny_model_folder: Path, cache: Path) -> None:
    shutil.copytree(tiny_model_folder, cache / "models" / "SmolLM2-135M-Instruct")
    shutil.copytree(tiny_model_folder, cache / "models" / "mine")
    (cache / "models" / "empty").mkdir()
    assert resolve("HuggingFaceTB/smollm2-135m-instruct", no_progress) == cache / "models" / "SmolLM2-135M-Instruct"
    assert resolve("mine", no_progress) == cache / "models" / "mine"
    assert [model.name for model in converted_models()] == ["SmolLM2-135M-Instruct", "mine"]
    assert converted_models()[0].size > 10_000
    with pytest.raises(ModelError, match="'mime' is unknown; did you mean mine"):
        resolve("mime", no_progress)


def test_a_short_name_and_its_hub_id_denote_one_model() -> None:
    for short, hub_id in HUB_IDS.items():
        assert short_name(short.upper()) == short_name(hub_id) == short
    assert short_name("x/y") is None
