"""The command line: help, invalid arguments, output streams, imports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import branchwise as bw
from tests.support.commands import COMMAND, GOOD_ROW, assert_rejected, run


def test_version_and_help() -> None:
    assert run("--version").stdout == f"branchwise {bw.__version__}\n"
    shown = run("--help").stdout
    assert "Examples" in shown
    assert "branchwise solve" in shown


def test_models_list_names_the_default() -> None:
    shown = run("models", "list").stdout
    assert "The default model is Qwen2.5-Coder-0.5B-Instruct." in shown
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", ""], "question: is empty"),
        (["solve", b"\xff"], "question: is not text in UTF-8"),
        (["solve", "q", "--strategy", "path-consistncy"], "did you mean path-consistency"),
        (["solve", "q", "--task", "mth"], "did you mean math"),
        (["models", "pull", "Qwen2.5-Coder-0.5B-Instrct"], "did you mean Qwen2.5-Coder-0.5B-Instruct"),
        (["solve", "q", "--strategy", "greedy", "--paths", "0"], "--paths: is 0"),
        (["solve", "q", "--paths=-1"], "--paths: is -1"),
        (["solve", "q", "--paths", "99999999999"], "--paths: is 99999999999; use at most 100000"),
        (["solve", "q", "--temperature", "-1"], "--temperature: is -1"),
        (["solve", "q", "--temperature", "nan"], "--temperature: is nan"),
        (["solve", "q", "--top-p", "0"], "--top-p: is 0"),
        (["solve", "q", "--max-tokens", "0"], "--max-tokens: is 0"),
        (["solve", "q", "--budget-tokens", "0"], "--budget-tokens: is 0"),
        (["solve", "q", "--budget-seconds", "-1"], "--budget-seconds: is -1"),
        (["solve", "q", "--thinking-budget", "0"], "--thinking-budget: is 0"),
        (["solve", "q", "--model", "."], "--model: the folder . holds no weights"),
        (["solve", "q", "--model", "qwem"], "--model: 'qwem' is unknown; did you mean Qwen2.5-Coder-0.5B-Instruct?"),
        (["solve", "q", "--trace", "missing/trace.json"], "--trace: the folder missing does not exist"),
        (["solve", "q", "--trace", "pipe"], "--trace: pipe is not a regular file"),
        (["solve", "q", "--dtype", "int3"], "--dtype: is 'int3'"),
        (["eval", "missing.jsonl"], "data: there is no file missing.jsonl"),
        (["eval", "bad.jsonl"], "bad.jsonl, line 2, answer: is missing"),
        (["eval", "broken.jsonl"], "broken.jsonl, line 1, JSON: Expecting property name"),
        (["eval", "good.jsonl", "--paths", "0"], "--paths: is 0"),
        (["eval", "good.jsonl", "--limit", "0"], "--limit: is 0"),
        (["eval", "good.jsonl", "--top-p", "2"], "--top-p: is 2"),
        (["eval", "good.jsonl", "--task", "maths"], "--task: 'maths' is unknown; did you mean math?"),
        (["eval", "good.jsonl", "--few-shot", "2"], "--few-shot: is 2, but good.jsonl has 1 rows; use fewer"),
        (["eval", "good.jsonl", "--thinking-budget", "0"], "--thinking-budget: is 0"),
        (["eval", "good.jsonl", "--strategy", "gredy"], "--strategy: 'gredy' is unknown; did you mean greedy?"),
        (["eval", "good.jsonl", "--model", "smollm", "--out", "new"], "did you mean SmolLM2-135M-Instruct?"),
        (["eval", "good.jsonl", "--out", "bad.jsonl"], "--out: cannot write in bad.jsonl"),
        (["models", "pull", ""], "model: '' is unknown"),
        (["models", "pull", "nothing-like-it"], "model: 'nothing-like-it' is unknown"),
    ],
)
def test_invalid_arguments_are_one_line_naming_the_field(
    arguments: list[str | bytes], message: str, tmp_path: Path
) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD_ROW)
    (tmp_path / "bad.jsonl").write_text(GOOD_ROW + '{"id": "b", "question": "q"}\n')
    (tmp_path / "broken.jsonl").write_text("{\n")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    assert_rejected(run(*arguments, cwd=tmp_path), message)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("arguments", [["solve", "q", "--model", "qwem"], ["eval", "good.jsonl", "--paths", "0"]])
def test_invalid_arguments_are_rejected_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD_ROW)
    command = [sys.executable, "-X", "importtime", "-m", "branchwise.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert not re.search(r"\| +(torch|transformers|huggingface_hub)\n", done.stderr)


@pytest.mark.parametrize(
    "command", ["", "solve", "eval", "report", "show", "serve", "mcp", "strategies", "models", "models list"]
)
def test_help_fits_eighty_columns(command: str) -> None:
    shown = run(*command.split(), "--help", env={"COLUMNS": "80"}).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert ("Examples:" in shown) == (not command.startswith("models"))


@pytest.mark.parametrize("arguments", [["models", "list"], ["solve", "--help"]])
def test_a_closed_pipe_is_not_an_error(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*COMMAND, *arguments], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "models", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert_rejected(done, "the output cannot be written (No space left on device)")


def test_an_option_of_the_wrong_type_is_a_usage_error() -> None:
    done = run("solve", "q", "--paths", "many")
    assert done.returncode == 2
    assert "--paths" in done.stderr
    assert "Traceback" not in done.stderr


def test_pull_converts_a_gguf_file_and_prints_the_folder(tiny_gguf: Path, tmp_path: Path) -> None:
    done = run("models", "pull", str(tiny_gguf), env={"BRANCHWISE_CACHE": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "config.json").is_file()
    assert done.stderr == "converting tiny.gguf to safetensors, once\n"
