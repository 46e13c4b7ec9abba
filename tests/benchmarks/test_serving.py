"""Benchmarks of serving: load on a real server with a tiny model, votes and tables without a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import JsonValue

from branchwise.evaluation.dataset import read_rows

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "gsm8k.jsonl"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # On tensors this small, a second thread makes a run slower.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("BRANCHWISE_API_KEY", None)
    command = [sys.executable, "-m", "benchmarks.serving", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_load_accounts_for_every_token(tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench" / "load.json"
    done = run(
        "load",
        str(DATA),
        "--model",
        str(tiny_model_folder),
        "--questions",
        "6",
        "--paths",
        "3",
        "--waves",
        "2",
        "--max-tokens",
        "12",
        "--strategy",
        "self-consistency",
        "--out",
        str(out),
    )
    assert done.returncode in (0, 1), done.stderr  # memory may still grow in so short a run
    document = json.loads(out.read_text())
    assert document["errors"] == {}
    assert document["answered"] == 2 * 6
    assert document["tokens"] == sum(wave["tokens"] for wave in document["samples"])
    assert 0 < document["tokens"] <= 2 * 6 * 3 * 12
    assert document["tokens_not_told"] == 0
    assert 0 < document["serving_us_per_token"] < document["engine_us_per_token"]
    assert document["overhead"] == pytest.approx(
        document["serving_us_per_token"] / document["engine_us_per_token"], rel=0.05
    )
    assert document["resident_mb"][0] > 50
    assert document["options"]["paths"] == 3
    assert (tmp_path / "bench" / "load.log").read_text()


def test_a_server_that_does_not_start_is_an_error_with_its_log(tmp_path: Path) -> None:
    done = run("load", str(DATA), "--model", str(tmp_path / "none"), "--out", str(tmp_path / "load.json"))
    assert done.returncode == 2
    assert "the server did not start" in done.stderr
    assert "none" in done.stderr


async def test_the_client_votes_as_branchwise_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import serving_compare

    (row,) = read_rows(str(DATA), 0, 1)

    def choice(text: str, reason: str = "stop") -> dict[str, JsonValue]:
        return {"message": {"content": text}, "finish_reason": reason}

    votes = ["The answer is 7.", "So it is \\boxed{72}.", "The answer is 72.0.", "no idea", "The answer is 7"]
    assert await serving_compare._vote(row, [*map(choice, votes)]) == "7"
    assert await serving_compare._vote(row, [*map(choice, votes), choice("The answer is 72.")]) == "72"
    assert await serving_compare._vote(row, [choice("Well, 72", "length")]) is None
    assert await serving_compare._vote(row, []) is None


def test_strategies_are_compared_question_by_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.serving_compare import PLAIN, QuestionResult, comparisons, table

    results = []
    for number in range(20):
        unvoted = QuestionResult(str(number), PLAIN, "1", number < 10, 4.0, 100, 200)
        voted = QuestionResult(str(number), "path-consistency", "1", number < 15, 1.0 + number % 2, 100, 100)
        results += [unvoted, voted] if number % 2 else [voted, unvoted]
    plain, strategy = comparisons(results)
    assert (plain.way, plain.questions, plain.accuracy.value) == (PLAIN, 20, 0.5)
    assert plain.gain == (0, 0, 0) or plain.gain.value == 0
    assert strategy.accuracy.value == 0.75
    assert strategy.gain.value == 0.25
    assert strategy.gain.low > 0
    assert strategy.tokens == (0.5, 0.5, 0.5)
    assert strategy.time.value == pytest.approx(1.5 / 4)
    assert strategy.seconds_each == 1.5
    lines = table([plain, strategy]).splitlines()
    assert len(lines) == 4
    assert "| path-consistency | 0.75 [" in lines[3]
    assert "| 0.50 [0.50, 0.50] |" in lines[3]
