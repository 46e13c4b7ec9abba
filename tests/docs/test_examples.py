"""Every example runs, on the scripted backend, and is short."""

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from branchwise.backends.scripted.backend import ScriptedBackend

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = Path(__file__).parents[1] / "data" / "gsm8k.jsonl"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def backend() -> ScriptedBackend:
    return ScriptedBackend({"": ["First. Then. The answer is 72."], "First.": [" Then. The answer is 72."]})


def test_quickstart() -> None:
    assert load("quickstart").main(backend()).answer == "72"


def test_agent() -> None:
    answers = asyncio.run(load("agent").main(backend()))
    assert [answer.split()[0] for answer in answers] == ["72", "72"]


def test_batch() -> None:
    summary = asyncio.run(load("batch").main(backend(), str(ROWS)))
    assert [one.questions for one in summary.strategies] == [4, 4]


def test_own_strategy() -> None:
    result = load("own_strategy").main(backend())
    assert (result.answer, len(result.paths)) == ("72", 2)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_one_short_file_that_a_test_runs(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 40
    assert f"def test_{file.stem}(" in Path(__file__).read_text()
