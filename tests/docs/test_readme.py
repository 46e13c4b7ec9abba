"""The README does what it says: its Python runs, its commands are taken."""

import re
import shlex
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.chat import config as arguments
from tests.support.commands import run
from tests.support.served import served

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SEARCH = (ROOT / "docs" / "search.md").read_text()
ALL_PYTHON = re.findall(r"```python\n(.*?)```", README + SEARCH, re.DOTALL)
PYTHON = [block for block in ALL_PYTHON if "localhost" not in block]
(CLIENT,) = (block for block in ALL_PYTHON if "localhost" in block)
BLOCKS = [re.findall(r"^(?:echo \"[^\"]*\" \| )?branchwise .*$", block, re.MULTILINE)
          for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)]  # fmt: skip
"""The commands of each block of shell: later ones may go on from earlier ones."""


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_a_python_snippet_runs(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bw, arguments):
        monkeypatch.setattr(module, "load", lambda *_, **__: ScriptedBackend({"": ["The answer is 42."]}))
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(snippet, "README.md", "exec"), names)
    if "FivePaths" in names:
        result = bw.solve_sync("q", bw.load(), strategy=names["FivePaths"]())  # type: ignore[operator]
        assert len(result.paths) == 5


@pytest.mark.parametrize("commands", [block for block in BLOCKS if block])
def test_commands_are_taken(
    commands: list[str], tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on tensors this small, threads only wait for each other
    rows = (ROOT / "tests" / "data" / "gsm8k.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "gsm8k.jsonl").write_text("".join(rows[:5]), encoding="utf-8")
    for command in commands:
        if command.startswith("branchwise serve "):
            continue  # it does not end: see below
        spoken, _, rest = command.rpartition("branchwise ")
        arguments = shlex.split(rest)
        if arguments[0] in ("solve", "eval"):
            arguments += ["--model", str(tiny_model_folder), "--max-tokens", "4", "--paths", "2"]
        done = run(*arguments, given=spoken, cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr  # the tiny random model has no answer
        assert "Traceback" not in done.stderr
        assert done.stdout


def test_the_server_answers_its_client(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = re.findall(r"^branchwise serve --model (\S+)$", README, re.MULTILINE)
    assert f'model="{model}@' in CLIENT
    with served("--model", str(tiny_model_folder), "--max-tokens", "64") as server:
        block = CLIENT.replace("http://localhost:8000", server.url).replace(f'"{model}@', f'"{tiny_model_folder}@')
        exec(compile(block.replace("messages=", "max_tokens=4, messages="), "README.md", "exec"), {})
    assert capsys.readouterr().out.rstrip().endswith("}")  # the tiny random model votes for nothing


def test_every_strategy_and_folder_is_named() -> None:
    from branchwise.registry import STRATEGIES

    assert all(f"`{name}`" in README for name in STRATEGIES)
    assert all(f"`{folder}/`" in README for folder in ("reasoning", "backends", "search", "prompts"))


def test_the_results_come_with_their_command() -> None:
    results = README.partition("## Results")[2].partition("\n## ")[0]
    assert "branchwise eval" in results
    assert re.search(r"\|\s*path-consistency-plain\s*\|", results)
