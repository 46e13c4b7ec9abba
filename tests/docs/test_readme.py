"""The README and the pages of docs/: their Python runs, their commands are accepted, their links exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.chat import config as arguments
from tests.support.commands import run
from tests.support.fake_server import FakeFeatures, FakeServer
from tests.support.served import served

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("python", "strategies", "command-line", "evaluation", "engine", "search", "vllm", "serving", "servers")
DOCS = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in PAGES}
TEXT = README + "".join(DOCS.values())
ALL_PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
PYTHON = [block for block in ALL_PYTHON if "base_url" not in block and "connect(" not in block]
CONNECTING = [block for block in ALL_PYTHON if "connect(" in block]
(CLIENT,) = (block for block in ALL_PYTHON if "base_url" in block)
BLOCKS = [
    re.findall(r"^(?:echo \"[^\"]*\" \| )?branchwise .*$", block, re.MULTILINE)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
]
"""The commands of each shell block: later ones may use the results of earlier ones."""


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_a_python_snippet_runs(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bw, arguments):
        monkeypatch.setattr(module, "load", lambda *_, **__: ScriptedBackend({"": ["The answer is 42."]}))
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(snippet, "README.md", "exec"), names)
    if "FivePaths" in names:
        result = bw.solve_sync("q", bw.load(), strategy=names["FivePaths"]())  # type: ignore[operator]
        assert len(result.paths) == 5


@pytest.mark.parametrize("snippet", CONNECTING, ids=range(len(CONNECTING)))
def test_a_snippet_connects_to_a_server_of_chats_without_torch(snippet: str) -> None:
    """The first one is the first example of the README."""
    assert README.index(CONNECTING[0]) == README.index("```python\n") + len("```python\n")
    code = f"import sys\nsys.modules['torch'] = None\n{snippet}\nassert backend.capabilities.continues"
    reply = "First, 17 * 20 is 340.\nThen 17 * 3 is 51.\nSo the answer is \\boxed{391}."
    with FakeServer(
        lambda prompt, before: reply, FakeFeatures(tokens=False, continuation="plain", context=9000)
    ) as server:
        code = code.replace("http://localhost:8000", server.url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout[:4]) == ("", "391 ")


@pytest.mark.parametrize("commands", [block for block in BLOCKS if block])
def test_commands_are_taken(
    commands: list[str], tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on tensors this small, threads only wait for each other
    rows = (ROOT / "tests" / "data" / "gsm8k.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "gsm8k.jsonl").write_text("".join(rows[:5]), encoding="utf-8")
    for command in commands:
        if command.startswith("branchwise serve ") or "--base-url" in command:
            continue  # a server does not end, and needs one: see below
        spoken, _, rest = command.rpartition("branchwise ")
        arguments = shlex.split(rest)
        if arguments[0] in ("solve", "eval"):
            arguments += ["--model", str(tiny_model_folder), "--max-tokens", "4", "--paths", "2"]
        done = run(*arguments, stdin=spoken, cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr  # the tiny random model has no answer
        assert "Traceback" not in done.stderr
        assert done.stdout


def test_the_server_answers_its_client(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = re.findall(r"^ +branchwise serve --model (\S+)$", DOCS["serving"], re.MULTILINE)
    assert f'model="{model}"' in CLIENT
    with served("--model", str(tiny_model_folder), "--max-tokens", "64") as server:
        block = CLIENT.replace("http://127.0.0.1:8000", server.url).replace(f'"{model}"', f'"{tiny_model_folder}"')
        exec(compile(block.replace("messages=", "max_tokens=4, messages="), "serving.md", "exec"), {})
    assert capsys.readouterr().out.rstrip().endswith("}")  # the tiny random model votes for nothing


def test_every_strategy_and_folder_is_named() -> None:
    from branchwise.registry import STRATEGIES

    assert all(f"`{name}`" in README for name in STRATEGIES)
    assert all(f"`{name}`" in DOCS["strategies"] for name in STRATEGIES)
    assert all(f"`{folder}/`" in README for folder in ("reasoning", "backends", "search", "prompts"))


def test_the_readme_is_short_and_its_links_are_absolute_and_exist() -> None:
    assert len(README.splitlines()) <= 200
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    base = re.compile(
        r"https://(?:github\.com|raw\.githubusercontent\.com)/branchwise/branchwise/(?:(?:blob|tree)/)?main/([^#]+)(?:#.*)?"
    )
    for link in links:
        assert link.startswith("https://"), link
        if found := base.fullmatch(link):
            assert (ROOT / found[1]).exists(), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_the_links_of_a_page_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_results_come_with_their_command() -> None:
    results = README.partition("## Results")[2].partition("\n## ")[0]
    assert "branchwise eval" in results
    assert "`path-consistency-plain`" in results
