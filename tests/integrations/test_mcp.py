"""The MCP server, asked by the real client: in the same process and over a process of its own."""

import asyncio
import json
import sys
from pathlib import Path

import mcp
import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.scripted.backend import Reply
from branchwise.chat.config import ChatConfig
from branchwise.integrations.mcp import server
from tests.support.talks import Talk

ANSWERS = ["The answer is 41.", "So the answer is 42.", "Hm.", "The answer is 42.", "The answer is 42."]
CONFIG = ChatConfig(strategy="self-consistency", paths=5, task="math")


def solution(result: CallToolResult) -> dict[str, JsonValue]:
    """Return the result of a call after checking that its structure and text agree."""
    assert not result.is_error, result.content
    told = result.structured_content
    assert told is not None
    (said,) = result.content
    assert isinstance(said, TextContent)
    assert json.loads(said.text) == told
    return dict(told)


async def test_a_question_is_answered_with_its_votes_and_its_ledger() -> None:
    backend = Talk(ANSWERS)
    async with mcp.Client(server(backend, CONFIG)) as client:
        told = solution(await client.call_tool("solve", {"question": "6 times 7?"}))
    assert (told["answer"], told["votes"], told["outcome"]) == ("42", {"42": 3.0, "41": 1.0}, "complete")
    assert told["text"] == "So the answer is 42."
    assert isinstance(told["confidence"], float)
    assert bw.Usage.model_validate(told["usage"]).sampled == 5 + 6 + 2 + 5 + 5
    assert (told["degraded"], told["errors"]) == ([], [])
    system, user = backend.prompts[0].turns
    assert "boxed" in system.content  # the whole task, as on the command line
    assert user.content == "6 times 7?"


async def test_the_tool_is_described() -> None:
    async with mcp.Client(server(Talk(ANSWERS))) as client:
        (tool,) = (await client.list_tools()).tools
    assert tool.name == "solve"
    assert tool.input_schema["required"] == ["question"]
    asked = {"question", "strategy", "paths", "budget_tokens", "budget_seconds", "task", "seed"}
    assert set(tool.input_schema["properties"]) == asked
    assert all(each["description"] for each in tool.input_schema["properties"].values())
    assert tool.output_schema is not None
    assert {"answer", "confidence", "votes", "outcome", "usage", "degraded"} <= set(tool.output_schema["properties"])
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint


async def test_a_call_sets_what_it_names() -> None:
    backend = Talk(["The answer is (B)"])
    asked = {"question": "q", "strategy": "greedy", "task": "choice", "budget_tokens": 3, "seed": 5}
    async with mcp.Client(server(backend, CONFIG)) as client:
        told = solution(await client.call_tool("solve", asked))
        solution(await client.call_tool("solve", {"question": "q", "paths": 2}))
        solution(await client.call_tool("solve", {"question": "q", "paths": 2}))
        solution(await client.call_tool("solve", {"question": "q", "paths": 2, "seed": 7}))
    first, second, third, fourth = backend.requests
    assert (len(first.keys), first.sampling.temperature, first.sampling.max_tokens) == (1, 0.0, 3)
    assert told["outcome"] == "tokens_spent"
    assert len(second.keys) == 2
    assert second.keys == third.keys != fourth.keys


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"question": "q", "paths": 0}, "paths: is 0"),
        ({"question": "q", "strategy": "beem"}, "did you mean beam?"),
        ({"question": "q", "strategy": "examples/own_strategy.py:UntilTwoAgree"}, "is unknown; use one of"),
        ({"question": "q", "task": "maths"}, "did you mean math?"),
        ({"question": "q", "budget_seconds": -1}, "budget_seconds: is -1"),
        ({"question": " "}, "question: is empty"),
        ({"paths": 3}, "question"),
    ],
)
async def test_calls_that_make_no_sense_are_told_why(asked: dict[str, JsonValue], message: str) -> None:
    async with mcp.Client(server(Talk(ANSWERS), CONFIG)) as client:
        result = await client.call_tool("solve", asked)
    assert result.is_error
    assert message in str(result.content)


async def test_a_backend_that_fails_is_told() -> None:
    async with mcp.Client(server(Talk([Reply("It is", fail_after=1)]), CONFIG)) as client:
        result = await client.call_tool("solve", {"question": "q"})
    assert result.is_error
    assert "the script says so" in str(result.content)


async def test_progress_is_told_while_paths_run() -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    replies = [Reply("The answer is 42.", delay=0.1), Reply("Hm , I think so ; the answer is 42.", delay=0.1)]
    async with mcp.Client(server(Talk(replies), CONFIG)) as client:
        asked = {"question": "q", "paths": 2, "budget_tokens": 100}
        solution(await client.call_tool("solve", asked, progress_callback=hear))
    counts = [progress for progress, _, _ in heard]
    assert len(counts) > 2
    assert counts == sorted(set(counts))  # it only ever grows
    assert counts[-1] == 5 + 11
    assert {total for _, total, _ in heard} == {100}
    assert any(message is not None and message.startswith("paths ended: 1; 42 leads") for _, _, message in heard)


@pytest.mark.parametrize("mode", ["auto", "legacy"])  # handed over directly, or as messages
async def test_cancelling_a_call_stops_all_its_paths(mode: str) -> None:
    backend = Talk([Reply("one two three four five six", delay=0.05)])
    async with mcp.Client(server(backend, CONFIG), mode=mode) as client:
        task = asyncio.create_task(client.call_tool("solve", {"question": "q"}))
        await backend.speaking(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await backend.idle()
        solution(await client.call_tool("solve", {"question": "q", "budget_tokens": 5}))  # it goes on


async def test_calls_run_side_by_side() -> None:
    backend = Talk([Reply("The answer is 42.", delay=0.05)])
    async with mcp.Client(server(backend, CONFIG)) as client:
        calls = [client.call_tool("solve", {"question": text, "paths": 2}) for text in "abc"]
        most = asyncio.create_task(_most(backend))
        told = [solution(each) for each in await asyncio.gather(*calls)]
    assert [each["answer"] for each in told] == ["42"] * 3
    assert await most == 6


async def _most(backend: Talk) -> int:
    """Most branches under way at a time."""
    most = 0
    while not most or backend.running:
        most = max(most, len(backend.running))
        await asyncio.sleep(0.005)
    return most


async def test_a_process_of_its_own_serves_a_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Whatever is on its standard output is the protocol: the client would choke on anything else."""
    options = ["--model", str(tiny_model_folder), "--paths", "3", "--max-tokens", "8", "--speculation", "off"]
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "branchwise.cli.main", "mcp", *options, "--device", "cpu", "--temperature", "1"],
        env={"OMP_NUM_THREADS": "1"},
    )
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    with (tmp_path / "stderr").open("w+") as errors:
        async with (
            stdio_client(command, errlog=errors) as (read, write),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            asked = {"question": "What is 6 times 7?", "strategy": "self-consistency", "task": "text"}
            result = await session.call_tool("solve", asked, progress_callback=hear)
            assert isinstance(result, CallToolResult)
            told = solution(result)
            again = await session.call_tool("solve", asked)
            assert isinstance(again, CallToolResult)
        errors.seek(0)
        assert "Traceback" not in errors.read()
    spent = bw.Usage.model_validate(told["usage"])
    assert 8 < spent.sampled <= 24
    assert heard == sorted(set(heard))
    assert heard[-1] == spent.sampled
    assert solution(again)["text"] == told["text"]


def test_a_wrong_option_ends_it_before_a_model_is_loaded() -> None:
    from tests.support.commands import run

    done = run("mcp", "--strategy", "beem")
    assert done.returncode == 2
    assert "did you mean beam?" in done.stderr
    assert not done.stdout
