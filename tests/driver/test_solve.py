"""The calls `solve`, `solve_batch` and `solve_sync`."""

import pytest
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from tests.support.throwaway import once

ONE = ScriptedBackend({"": ["Well. The answer is 1."]})


async def test_solve_sync_works_inside_a_running_loop() -> None:
    result = bw.solve_sync("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=bw.SelfConsistency(3))
    assert result.answer == "1"


async def test_messages_with_system_and_tools_reach_the_backend() -> None:
    tool: dict[str, JsonValue] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    turns = (bw.Message(role="system", content="Be brief."), bw.Message(role="user", content="2 + 2?"))
    asked = bw.Messages(turns=turns, tools=(tool,), prefix="The")
    result = await bw.solve(asked, ScriptedBackend({"": [" answer is 4."]}), strategy=bw.SelfConsistency(1))
    messages = result.paths[0].path.root.messages
    assert messages is not None
    assert messages.turns[0].content.startswith("Be brief.\n\n")
    assert messages.tools == (tool,)
    assert result.paths[0].path.answer_text == "The answer is 4."
    assert result.answer == "4"


@pytest.mark.parametrize("question", ["", "  \n", bw.Messages(turns=())])
async def test_an_empty_question_raises(question: str | bw.Messages) -> None:
    with pytest.raises(bw.ConfigError, match="question"):
        await bw.solve(question, ONE)


async def test_two_questions_share_one_budget() -> None:
    backend = ScriptedBackend({"": ["The answer is 1."] * 50})
    strategy = once(lambda log: bw.Extend(log.roots[0], 2), lambda log: bw.Extend(log.roots[1], 10))
    results = await bw.solve_batch(["a", "b"], backend, strategy=strategy, budget=bw.Budget(paths=5))
    assert [len(r.paths) for r in results] == [2, 3]
    assert [r.answer for r in results] == ["1", "1"]
    # The first question got everything it requested.
    assert [r.outcome for r in results] == [bw.Outcome.COMPLETE, bw.Outcome.PATHS_SPENT]


def test_an_unknown_option_raises_and_names_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"path: unknown keyword argument; use one of strategy, .*stop"):
        bw.solve_sync("q", ONE, path=3)  # type: ignore[call-arg]
