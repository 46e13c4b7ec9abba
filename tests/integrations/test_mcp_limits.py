"""Limits of the operator: no argument of a call raises one."""

import asyncio

import mcp
import pytest
from pydantic import JsonValue

from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.config import ChatConfig
from branchwise.chat.limits import Limits
from branchwise.core.errors import ConfigError
from branchwise.integrations.mcp import Solver
from branchwise.registry import STRATEGIES
from tests.support.mcp_lab import CONFIG
from tests.support.talks import Talk

LIMITS = Limits(paths=8, tokens=60, seconds=5)
ANSWERS = ["It is 41 .", "I think that the answer is 42.", "The answer is 42."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"paths": 9}, "paths: is 9; use 1 to 8"),
        ({"paths": 10**30}, "paths: "),
        ({"paths": -1}, "paths: "),
        ({"budget_tokens": 61}, "budget_tokens: is 61; use at most 60"),
        ({"budget_tokens": 2**70}, "budget_tokens: "),
        ({"budget_tokens": 0}, "budget_tokens: is 0"),
        ({"budget_seconds": 5.01}, "budget_seconds: is 5.01; use at most 5"),
        ({"budget_seconds": 1e308}, "budget_seconds: "),
        ({"seed": 2**64}, "seed: "),
        ({"strategy": "self-consistency:paths=9"}, "paths is 9; use at most 8"),
        ({"strategy": "blend-asc:most=1000"}, "most is 1000; use at most 8"),
        ({"strategy": "prefix-consistency:regrow=1000"}, "regrow is 1000"),
        ({"strategy": "mcts:rollouts=1000"}, "rollouts is 1000"),
        ({"strategy": "mcts:width=1000"}, "width is 1000"),
        ({"strategy": "mcts:parallel=1000"}, "parallel is 1000"),
        ({"strategy": "best-first:answers=1000"}, "answers is 1000"),
        ({"strategy": "tot-bfs:keep=1000"}, "keep is 1000"),
        ({"strategy": "tot-dfs:max_steps=1000000"}, "max_steps is 1000000"),
        ({"strategy": "best-first:nodes=1000000"}, "nodes is 1000000"),
        ({"strategy": "path-consistency:max_level=1000000"}, "max_level is 1000000"),
        ({"strategy": "tests/support/own.py:Own"}, "is unknown"),
        ({"task": "tests/support/own.py:TASK"}, "is unknown"),
    ],
)
async def test_no_argument_exceeds_a_limit(arguments: dict[str, JsonValue], message: str) -> None:
    backend = Talk(ANSWERS)
    async with mcp.Client(Solver(backend, CONFIG, LIMITS).server()) as client:
        result = await client.call_tool("solve", {"question": "q", **arguments})
    assert result.is_error
    assert message in str(result.content)
    assert not backend.requests


async def test_calls_without_arguments_keep_the_limits() -> None:
    backend = Talk(["word " * 1000])
    async with mcp.Client(Solver(backend, ChatConfig(task="math"), Limits(paths=3, tokens=20)).server()) as client:
        result = await client.call_tool("solve", {"question": "q"})
    assert result.structured_content is not None
    assert result.structured_content["usage"]["sampled"] <= 20
    assert all(len(request.keys) <= 3 for request in backend.requests)


async def test_the_time_limit_of_the_operator_holds() -> None:
    backend = Talk([Reply("word " * 1000, delay=0.05)])
    async with mcp.Client(Solver(backend, CONFIG, Limits(seconds=0.5)).server()) as client:
        result = await asyncio.wait_for(client.call_tool("solve", {"question": "q"}), 5)
    assert result.structured_content is not None
    assert result.structured_content["outcome"] == "seconds_spent"


@pytest.mark.parametrize("defaults", [{"paths": 9}, {"budget_tokens": 61}, {"strategy": "mcts:width=99"}])
def test_defaults_beyond_a_limit_are_refused(defaults: dict[str, JsonValue]) -> None:
    with pytest.raises(ConfigError, match="use"):
        Solver(Talk(ANSWERS), ChatConfig.parse(defaults), LIMITS)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
async def test_progress_grows_and_stays_within_its_total(strategy: str) -> None:
    def reply(path: object, before: int) -> str | Reply:
        return Reply(ANSWERS[before % 3] + "\nThe answer is 42.", delay=0.02)

    heard: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))

    solver = Solver(ScriptedBackend(reply), ChatConfig(task="math"), Limits(tokens=400, seconds=20))
    async with mcp.Client(solver.server()) as client:
        asked = {"question": "q", "strategy": strategy, "paths": 4, "budget_tokens": 60}
        result = await client.call_tool("solve", asked, progress_callback=hear)
    if result.is_error:  # the backend lacks what the strategy needs
        assert "needs" in str(result.content)
        return
    counts = [progress for progress, _ in heard]
    assert counts
    assert counts == sorted(set(counts))
    assert all(total == 60 and progress <= 60 for progress, total in heard)
