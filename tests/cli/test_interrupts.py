"""Ctrl-C at every stage of a command."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.support.commands import COMMAND, INTERRUPTIBLE, interrupt
from tests.support.files import StallingHandler, list_files, serve
from tests.support.hub import HubHandler


def imports_torch(process: int) -> bool:
    with contextlib.suppress(OSError):
        return "libtorch" in Path(f"/proc/{process}/maps").read_text()
    return False


def test_an_interrupt_while_loading_prints_nothing(tiny_model_folder: Path) -> None:
    done = interrupt([*COMMAND, "solve", "q", "--model", str(tiny_model_folder)], imports_torch, {})
    assert (done.status, done.stderr) == (130, "")


class StallingHub(StallingHandler, HubHandler):
    """Hub whose large files never end."""


def test_an_interrupt_does_not_wait_for_the_hub(tiny_model_folder: Path, tmp_path: Path) -> None:
    StallingHub.sent.clear()
    StallingHub.end.clear()
    with serve(tiny_model_folder, StallingHub) as address:
        env = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hub"), "BRANCHWISE_CACHE": str(tmp_path / "cache")}
        done = interrupt([*COMMAND, "models", "pull", "x/y"], lambda _: StallingHub.sent.is_set(), env)
        StallingHub.end.set()
    assert done.status == 130, done.stderr
    assert done.stderr.startswith("asking the model hub for x/y\ndownloading x/y from the model hub\n")
    assert "Traceback" not in done.stderr
    assert done.seconds < 30
    assert not [file for file in list_files(tmp_path) if file.endswith(".incomplete")]


def test_an_interrupt_prints_the_best_answer_so_far(tiny_model_folder: Path, tmp_path: Path) -> None:
    trace, shown = tmp_path / "trace.json", bytearray()
    ours, theirs = os.openpty()  # the live display of a terminal says when branches run
    options = ["--model", str(tiny_model_folder), "--paths", "900", "--max-tokens", "400", "--trace", str(trace)]
    process = subprocess.Popen(
        [*INTERRUPTIBLE, "solve", "q", "--strategy", "self-consistency", *options],
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
