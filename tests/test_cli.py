"""The command line as a user meets it, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "branchwise.cli.main"]
LEDGER = {"prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "forward_passes", "seconds"}


def run(*arguments: str, given: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


@pytest.fixture
def solve(tiny_model_folder: Path) -> list[str]:
    """Arguments of a quick solve: the model is random, so it has no answer."""
    return ["solve", "What is 2 + 2?", "--model", str(tiny_model_folder), "--max-tokens", "8", "--paths", "3"]


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("branchwise 0.")
    shown = run("--help").stdout
    assert "Examples" in shown
    assert "branchwise solve" in shown


def test_models_list_names_the_default() -> None:
    shown = run("models", "list").stdout
    assert "Qwen2.5-Coder-0.5B-Instruct (default)" in shown
    assert "Apache-2.0" in shown


def test_json_is_one_object_with_the_whole_ledger(solve: list[str]) -> None:
    done = run(*solve, "--json")
    assert done.returncode == 1  # no answer
    record = json.loads(done.stdout)
    assert record["answer"] is None
    assert (record["votes"], record["outcome"], record["confidence"]) == ({}, "no_answer", None)
    assert set(record["usage"]) >= LEDGER
    assert record["usage"]["prompt"] == record["usage"]["reused"] + record["usage"]["prefilled"]
    assert record["usage"]["sampled"] <= 24


def test_piped_output_is_plain(solve: list[str]) -> None:
    done = run(*solve)
    assert done.returncode == 1
    assert "answer      none" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_the_question_can_come_from_standard_input(solve: list[str]) -> None:
    done = run("solve", "-", *solve[2:], "--json", given="What is 3 + 3?\n")
    assert json.loads(done.stdout)["question"] == "What is 3 + 3?\n"


def test_the_same_seed_gives_the_same_trace(solve: list[str], tmp_path: Path) -> None:
    traces = []
    for name in ("one.json", "two.json"):
        run(*solve, "--seed", "7", "--trace", str(tmp_path / name))
        record = json.loads((tmp_path / name).read_text())
        assert [path["tokens"] for path in record["paths"]] == [8, 8, 8]
        traces.append((record["answer"], record["votes"], record["paths"]))
    assert traces[0] == traces[1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.json", "two.json"]


def test_the_token_budget_holds(solve: list[str]) -> None:
    record = json.loads(run(*solve, "--budget-tokens", "13", "--json").stdout)
    assert record["usage"]["sampled"] == 13
    assert record["outcome"] == "tokens_spent"


def test_a_stop_string_never_met_is_harmless(solve: list[str]) -> None:
    assert run(*solve, "--stop", "never met").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["solve", ""], "question: is empty"),
        (["solve", "q", "--strategy", "path-consistncy"], "did you mean path-consistency"),
        (["solve", "q", "--task", "mth"], "did you mean math"),
        (["solve", "q", "--model", "Qwen2.5-Coder-0.5B-Instrct"], "did you mean Qwen2.5-Coder-0.5B-Instruct"),
        (["solve", "q", "--paths", "0"], "paths: is 0"),
        (["solve", "q", "--temperature", "-1"], "temperature: is -1"),
        (["solve", "q", "--top-p", "0"], "top_p: is 0"),
        (["solve", "q", "--max-tokens", "0"], "max_tokens: is 0"),
        (["solve", "q", "--budget-tokens", "0"], "budget_tokens: is 0"),
        (["solve", "q", "--thinking-budget", "0"], "thinking_budget: is 0"),
        (["solve", "q", "--model", "."], "holds no weights"),
        (["solve", "q", "--trace", "missing/trace.json"], "trace: the folder missing does not exist"),
        (["solve", "q", "--dtype", "int3"], "dtype: is 'int3'"),
        (["eval", "missing.jsonl"], "data: there is no file missing.jsonl"),
        (["eval", "bad.jsonl"], "bad.jsonl, line 2, answer: Field required"),
        (["eval", "broken.jsonl"], "broken.jsonl, line 1, JSON: Invalid JSON"),
        (["eval", "good.jsonl", "--paths", "0"], "paths: is 0"),
        (["models", "pull", "nothing-like-it"], "model: 'nothing-like-it' is unknown"),
    ],
)
def test_bad_input_gets_one_line_that_names_the_field(arguments: list[str], field: str, tmp_path: Path) -> None:
    good = '{"id": "a", "question": "q", "answer": "1"}\n'
    (tmp_path / "good.jsonl").write_text(good)
    (tmp_path / "bad.jsonl").write_text(good + '{"id": "b", "question": "q"}\n')
    (tmp_path / "broken.jsonl").write_text("{\n")
    before = sorted(tmp_path.iterdir())
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("loading")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert field in lines[0]
    assert sorted(tmp_path.iterdir()) == before


def test_a_prompt_longer_than_the_context_is_refused(solve: list[str]) -> None:
    done = run("solve", "word " * 600, *solve[2:])
    assert done.returncode == 2
    assert "question: its prompt is" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreadable_option_is_a_usage_error(solve: list[str]) -> None:
    done = run(*solve[:-1], "many")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_interrupt_prints_what_there_is(tiny_model_folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "solve", "q", "--model", str(tiny_model_folder), "--paths", "900", "--max-tokens", "400", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    process.stderr.readline()  # it is loading the model
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err  # random text has no answer
    assert json.loads(out)["outcome"] == "cancelled"


@pytest.mark.model
def test_a_real_model_answers_from_the_command_line() -> None:
    done = run("solve", "What is 6 times 7?", "--model", "SmolLM2-135M-Instruct", "--paths", "4", "--json")
    record = json.loads(done.stdout)
    assert done.returncode == 0
    assert record["answer"] in record["votes"]
    assert record["usage"]["reused"] > record["usage"]["prefilled"]
