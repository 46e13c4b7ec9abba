"""The README does what it says: its Python runs, its commands are taken."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.scripted import ScriptedBackend

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"^(?:echo \"[^\"]*\" \| )?branchwise .*$", SHELL, re.MULTILINE)


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_a_python_snippet_runs(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bw, "load", lambda *_, **__: ScriptedBackend({"": ["The answer is 42."]}))
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(snippet, "README.md", "exec"), names)
    if "FivePaths" in names:
        result = bw.solve_sync("q", bw.load(), strategy=names["FivePaths"]())  # type: ignore[operator]
        assert len(result.paths) == 5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken(command: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    spoken, _, rest = command.rpartition("branchwise ")
    arguments = shlex.split(rest)
    if arguments[0] in ("solve", "eval"):
        arguments += ["--model", str(tiny_model_folder), "--max-tokens", "4", "--paths", "2"]
    data = tmp_path / "gsm8k.jsonl"
    data.write_bytes((ROOT / "tests" / "data" / "gsm8k.jsonl").read_bytes())
    run = subprocess.run(
        [sys.executable, "-m", "branchwise.cli.main", *arguments],
        cwd=tmp_path,
        input=spoken,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr  # the tiny random model has no answer
    assert "Traceback" not in run.stderr
    assert run.stdout


def test_every_strategy_and_folder_is_named() -> None:
    from branchwise.registry import STRATEGIES

    assert all(f"`{name}`" in README for name in STRATEGIES)
    assert all(f"`{folder}/`" in README for folder in ("reasoning", "backends", "search", "prompts"))


def test_the_results_come_with_their_command() -> None:
    results = README.partition("## Results")[2].partition("\n## ")[0]
    assert "branchwise eval" in results
    assert re.search(r"\|\s*path-consistency-plain\s*\|", results)
