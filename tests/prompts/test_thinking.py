"""Thinking models: thinking budgets, and thoughts that are not part of the answer."""

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend

THINKING = bw.Task(name="thinking", format=bw.task("math").format, max_tokens=40, thinking=bw.Thinking(budget=6))


async def test_thinking_budget_closes_the_thoughts_before_the_answer() -> None:
    long = "<think> a b c d e f g h i j The answer is 9."
    closing = THINKING.thinking.closing
    script = {"": [long], "<think> a b c" + closing: ["The answer is 7."]}
    result = await bw.solve("q", ScriptedBackend(script), strategy=bw.SelfConsistency(1), task=THINKING)
    assert result.answer == "7"
    (branch,) = result.paths
    assert closing in branch.path.answer_text
    assert [segment.forced for segment in branch.path.segments()] == [False, True, False]
    assert result.usage.sampled == 6 + 5  # inserted tokens are not sampled


async def test_thoughts_within_the_budget_are_unchanged() -> None:
    script = {"": ["<think>a</think> The answer is 7."], "<think>a</": ["think> The answer is 7."]}
    task = bw.Task(name="t", format=THINKING.format, thinking=bw.Thinking(budget=30))
    result = await bw.solve("q", ScriptedBackend(script), strategy=bw.SelfConsistency(1), task=task)
    assert result.answer == "7"
    assert len(list(result.paths[0].path.segments())) == 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>The answer is 3.</think> The answer is 4.", "4"),
        ("<think>The answer is 3.", None),
        ("The answer is 3.</think> The answer is 4.", "4"),
        ("The answer is 3.", "3"),
    ],
)
async def test_answers_inside_thoughts_are_ignored(text: str, answer: str | None) -> None:
    result = await bw.solve("q", ScriptedBackend({"": [text]}), strategy=bw.SelfConsistency(1))
    assert result.answer == answer
