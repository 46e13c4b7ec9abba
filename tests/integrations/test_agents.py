"""The Python blocks of docs/agents.md run over a scripted model."""

import asyncio
import re
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.base import Capabilities
from branchwise.chat import config as arguments
from tests.support.serving_lab import serving
from tests.support.talks import Talk, a_loop_of_its_own, call

DOCS = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
HERE = [block for block in BLOCKS if "localhost" not in block]
SERVED = [block for block in BLOCKS if "localhost" in block]
NAME = "Qwen2.5-Coder-0.5B-Instruct"


class Documented(Talk):
    """Calls `add` when it is available, then answers; replies with an object when one is requested."""

    def __init__(self) -> None:
        super().__init__([], ["The answer is 42."])
        self._capabilities = Capabilities(model=NAME, context=100_000)

    def _script_reply(self, path: bw.Path, before: int) -> str:
        messages = path.root.messages
        assert messages is not None
        if "final_answer" in messages.turns[0].content:  # an agent that writes code
            return "Thought: easy.\n<code>\nfinal_answer(6 * 7)\n</code>"
        if messages.tools and messages.turns[-1].role != "tool":
            return call("add", '{"a": 19, "b": 23}')
        asked = "JSON object" in messages.turns[0].content
        return '{"total": 42}' if asked else "The answer is 42."


@pytest.mark.parametrize("block", HERE, ids=range(len(HERE)))
def test_a_block_runs_in_process(
    block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arguments, "load", lambda *_, **__: Documented())
    monkeypatch.setattr(bw, "load", lambda *_, **__: Documented())
    with a_loop_of_its_own():
        exec(compile(block, "agents.md", "exec"), {"__name__": "agents"})
    said = capsys.readouterr().out
    assert "42" in said
    assert ("'name': 'add'" in said) == ("bind_tools" in block)


@pytest.mark.parametrize("block", SERVED, ids=range(len(SERVED)))
async def test_a_block_runs_over_a_server(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    for package in re.findall(r"^(?:from|import) (\w+)", block, re.MULTILINE):
        pytest.importorskip(package)
    async with serving(Documented()) as served:
        code = compile(block.replace("http://localhost:8000", served.url), "agents.md", "exec")
        await asyncio.to_thread(exec, code, {"__name__": "agents"})
    assert "42" in capsys.readouterr().out


def test_the_documented_arguments_and_fields_are_there() -> None:
    from branchwise.integrations.mcp import Solution

    sentence = re.search(r"the result\nhas (.*?)\. Clients", DOCS, re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence.group(1))) <= set(Solution.model_fields)
