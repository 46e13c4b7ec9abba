"""`branchwise eval`: names of data sets, failures and progress."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, GOOD_ROW, is_plain, quick, run


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> list[str]:
    return quick(tiny_model_folder)


def test_files_of_one_name_and_a_question_that_is_too_long(tiny: list[str], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text(GOOD_ROW)
    long = json.dumps({"id": "long", "question": "word " * 600, "answer": "1"}) + "\n"
    (tmp_path / "b" / "test.jsonl").write_text(long + GOOD_ROW)
    done = run("eval", "a/test.jsonl", "b/test.jsonl", *tiny, "--strategy", "greedy", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a/test.jsonl, 1 question\n" in done.stdout
    assert "b/test.jsonl, 2 questions" in done.stdout
    assert "0 of 2" in done.stdout
    assert "greedy: 1 failed; the first: question: its prompt is 3" in done.stdout
    assert is_plain(done.stdout + done.stderr)
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    outcomes = {(record["data"], record["id"]): record["outcome"] for record in records}
    assert outcomes == {
        ("a/test.jsonl", "a"): "no_answer",
        ("b/test.jsonl", "long"): "failed",
        ("b/test.jsonl", "a"): "no_answer",
    }


def test_a_terminal_shows_progress_rate_and_remaining_time(tiny: list[str], tmp_path: Path) -> None:
    rows = [json.dumps({"id": str(i), "question": f"What is {i}?", "answer": "1"}) for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    ours, terminal = os.openpty()
    with subprocess.Popen(
        [*COMMAND, "eval", "rows.jsonl", *tiny, "--strategy", "greedy", "--concurrency", "1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
    ):
        os.close(terminal)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert re.search(r"rows, greedy: 0 of \d+ correct .* \d+/30 +[\d.]+/min +\d:\d\d:\d\d +\d:\d\d:\d\d", text), text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""
