"""The command line as a user meets it, in a process of its own."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

import branchwise as bw
from branchwise.cli.solve import print_result

COMMAND = [sys.executable, "-m", "branchwise.cli.main"]
LEDGER = {"prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "forward_passes", "seconds"}
GOOD = '{"id": "a", "question": "q", "answer": "1"}\n'

Done = subprocess.CompletedProcess[str]


def run(*arguments: str | bytes, given: str = "", cwd: Path | None = None, cache: Path | None = None) -> Done:
    env = os.environ if cache is None else {**os.environ, "BRANCHWISE_CACHE": str(cache)}
    return subprocess.run(
        [*COMMAND, *arguments],
        input=given,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        cwd=cwd,
        env=env,
    )


def is_plain(text: str) -> bool:
    """Whether lines of text are all there is: nothing that a terminal would obey."""
    return not re.search(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def refused(done: Done, message: str) -> bool:
    """Exit status 2 and one line that says why."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    return True


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> list[str]:
    """Options of a quick run: the model is random, so it has no answer."""
    return ["--model", str(tiny_model_folder), "--max-tokens", "8", "--paths", "3"]


@pytest.fixture(scope="module")
def solved(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A run with its question on standard input, a stop that is never met and seed 7; and its trace."""
    trace = tmp_path_factory.mktemp("solved") / "trace.json"
    options = ["--json", "--stop", "never met", "--seed", "7", "--trace", str(trace)]
    return run("solve", "-", *tiny, *options, given="What is 3 + 3?\n"), trace


def test_version_and_help() -> None:
    assert run("--version").stdout == f"branchwise {bw.__version__}\n"
    shown = run("--help").stdout
    assert "Examples" in shown
    assert "branchwise solve" in shown


def test_models_list_names_the_default() -> None:
    shown = run("models", "list").stdout
    assert "Qwen2.5-Coder-0.5B-Instruct (default)" in shown
    assert "Apache-2.0" in shown


def test_json_is_one_object_with_the_whole_ledger(solved: tuple[Done, Path]) -> None:
    done, _ = solved
    assert done.returncode == 1  # no answer
    record = json.loads(done.stdout)
    assert record["question"] == "What is 3 + 3?\n"
    assert record["answer"] is None
    assert (record["votes"], record["outcome"], record["confidence"]) == ({}, "no_answer", None)
    assert set(record["usage"]) >= LEDGER
    assert record["usage"]["prompt"] == record["usage"]["reused"] + record["usage"]["prefilled"]
    assert record["usage"]["sampled"] == 24
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_same_seed_gives_the_same_trace(solved: tuple[Done, Path], tiny: list[str], tmp_path: Path) -> None:
    run("solve", "What is 3 + 3?\n", *tiny, "--seed", "7", "--trace", str(tmp_path / "trace.json"))
    first, second = (json.loads(file.read_text()) for file in (solved[1], tmp_path / "trace.json"))
    assert [path["tokens"] for path in first["paths"]] == [8, 8, 8]
    assert len({path["text"] for path in first["paths"]}) > 1
    assert all(first[field] == second[field] for field in ("answer", "votes", "confidence", "paths", "seed"))
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


def test_the_token_budget_holds_and_piped_output_is_plain(tiny: list[str]) -> None:
    done = run("solve", "What is 2 + 2?", *tiny, "--budget-tokens", "13")
    assert done.returncode == 1
    assert "answer      none" in done.stdout
    assert "sampled     13 tokens" in done.stdout
    assert "The token budget ran out" in done.stdout
    assert is_plain(done.stdout)
    assert done.stderr == ""


def test_what_a_model_says_cannot_steer_a_terminal() -> None:
    shown = io.StringIO()
    said = "7\x1b]0;title\x07\x9b2J\nanswer 8"
    result = bw.Result(said, 0.5, {said: 1.0}, bw.Outcome.COMPLETE, bw.Usage(), errors=(f"failed {said}",))
    print_result(Console(file=shown), result)
    assert is_plain(shown.getvalue())
    assert "answer      7 ]0;title 2J answer 8\n" in shown.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", ""], "question: is empty"),
        (["solve", b"\xff"], "question: is not text in UTF-8"),
        (["solve", "q", "--strategy", "path-consistncy"], "did you mean path-consistency"),
        (["solve", "q", "--task", "mth"], "did you mean math"),
        (["models", "pull", "Qwen2.5-Coder-0.5B-Instrct"], "did you mean Qwen2.5-Coder-0.5B-Instruct"),
        (["solve", "q", "--paths", "0"], "paths: is 0"),
        (["solve", "q", "--temperature", "-1"], "temperature: is -1"),
        (["solve", "q", "--top-p", "0"], "top_p: is 0"),
        (["solve", "q", "--max-tokens", "0"], "max_tokens: is 0"),
        (["solve", "q", "--budget-tokens", "0"], "budget_tokens: is 0"),
        (["solve", "q", "--thinking-budget", "0"], "thinking_budget: is 0"),
        (["solve", "q", "--model", "."], "holds no weights"),
        (["solve", "q", "--trace", "missing/trace.json"], "trace: the folder missing does not exist"),
        (["solve", "q", "--trace", "pipe"], "trace: pipe is no regular file"),
        (["solve", "q", "--dtype", "int3"], "dtype: is 'int3'"),
        (["eval", "missing.jsonl"], "data: there is no file missing.jsonl"),
        (["eval", "bad.jsonl"], "bad.jsonl, line 2, answer: Field required"),
        (["eval", "broken.jsonl"], "broken.jsonl, line 1, JSON: Invalid JSON"),
        (["eval", "good.jsonl", "--paths", "0"], "paths: is 0"),
        (["eval", "good.jsonl", "--out", "bad.jsonl"], "out: cannot make the folder bad.jsonl"),
        (["models", "pull", "nothing-like-it"], "model: 'nothing-like-it' is unknown"),
    ],
)
def test_bad_input_gets_one_line_that_names_the_field(
    arguments: list[str | bytes], message: str, tmp_path: Path
) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    (tmp_path / "bad.jsonl").write_text(GOOD + '{"id": "b", "question": "q"}\n')
    (tmp_path / "broken.jsonl").write_text("{\n")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    assert refused(run(*arguments, cwd=tmp_path), message)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "pipe").is_fifo()


def test_a_prompt_longer_than_the_context_is_refused(tiny: list[str]) -> None:
    assert refused(run("solve", "word " * 600, *tiny), "question: its prompt is 3")


def test_an_unreadable_option_is_a_usage_error() -> None:
    done = run("solve", "q", "--paths", "many")
    assert done.returncode == 2
    assert "--paths" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_result_is_shown_even_where_its_trace_cannot_be_written(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "trace.json.partial").mkdir()
    done = run("solve", "q", *tiny, "--trace", str(tmp_path / "trace.json"), "--json")
    assert refused(done, "trace: cannot write")
    assert json.loads(done.stdout)["outcome"] == "no_answer"


def test_eval_keeps_files_of_one_name_apart_and_outlives_a_question_too_long(tiny: list[str], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text(GOOD)
    long = json.dumps({"id": "long", "question": "word " * 600, "answer": "1"}) + "\n"
    (tmp_path / "b" / "test.jsonl").write_text(long + GOOD)
    done = run("eval", "a/test.jsonl", "b/test.jsonl", *tiny, "--strategy", "greedy", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a/test.jsonl, 1 questions" in done.stdout
    assert "b/test.jsonl, 2 questions" in done.stdout
    assert "greedy: 1 failed; the first: question: its prompt is 3" in done.stdout
    assert is_plain(done.stdout + done.stderr)
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    outcomes = {(record["data"], record["id"]): record["outcome"] for record in records}
    assert outcomes == {
        ("a/test.jsonl", "a"): "no_answer",
        ("b/test.jsonl", "long"): "failed",
        ("b/test.jsonl", "a"): "no_answer",
    }


def test_pulling_a_gguf_file_prints_its_folder(tiny_gguf: Path, tmp_path: Path) -> None:
    done = run("models", "pull", str(tiny_gguf), cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "config.json").is_file()
    assert done.stderr == "converting tiny.gguf to safetensors, once\n"


def test_an_interrupt_prints_what_there_is(tiny_model_folder: Path, tmp_path: Path) -> None:
    trace, shown = tmp_path / "trace.json", bytearray()
    ours, theirs = os.openpty()  # the live display of a terminal says when branches run
    options = ["--model", str(tiny_model_folder), "--paths", "900", "--max-tokens", "400", "--trace", str(trace)]
    process = subprocess.Popen(
        [*COMMAND, "solve", "q", *options],
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
    deadline = time.monotonic() + 60
    while not re.search(rb"[1-9]\d* running", shown) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    reader.join(timeout=10)
    os.close(ours)
    assert process.returncode == 1, shown  # random text has no answer
    assert "The run was stopped" in out
    record = json.loads(trace.read_text())
    assert record["outcome"] == "cancelled"
    assert 0 < record["usage"]["discarded"] <= record["usage"]["sampled"]


@pytest.mark.model
def test_a_real_model_answers_from_the_command_line() -> None:
    # The examples show so small a model the form of an answer.
    options = ["--model", "SmolLM2-135M-Instruct", "--task", "math-few-shot", "--paths", "4", "--json"]
    done = run("solve", "What is 6 times 7?", *options)
    record = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert record["answer"] in record["votes"]
    assert record["usage"]["reused"] > record["usage"]["prefilled"]
