"""Grading of replies by answer type, with the replies that other tools were reported to misread."""

import asyncio
import json
from pathlib import Path
from typing import TypedDict

import pytest

import branchwise as bw
from branchwise.evaluation.row import TASK_NAMES
from branchwise.prompts.grading import ANSWER_TYPES

_FILE = Path(__file__).parents[1] / "answers" / "graded.jsonl"


class Case(TypedDict, total=False):
    """A reply, and whether it is right."""

    id: int
    answer_type: str
    text: str
    reference: str
    right: bool
    debatable: bool


_CASES: list[Case] = [json.loads(line) for line in _FILE.read_text("utf-8").rstrip().split("\n")]
# Choices where opinions differ, documented in docs/answers.md: what the file expects does not hold.
_DECIDED_OTHERWISE = {179, 331, 492}


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case['id']}: {case['text'][-50:]!r}")
def test_replies_are_graded_as_a_person_would(case: Case) -> None:
    expected = case["right"] != (case["id"] in _DECIDED_OTHERWISE)
    assert bw.grade(case["text"], case["reference"], case["answer_type"]) is expected


@pytest.mark.parametrize(
    ("first", "second", "answer_type", "expected"),
    [
        ("0.5", "\\frac{1}{2}", "number", True),
        ("101_2", "101_3", "latex", False),
        ("(b)", "B", "letter", True),
        ("True", "yes", "yes_no", True),
        ("New  York", "new york.", "text", True),
    ],
)
def test_answers_are_compared_by_type(first: str, second: str, answer_type: str, expected: bool) -> None:
    assert bw.equivalent(first, second, answer_type) is expected
    assert asyncio.run(bw.equivalent_async(first, second, answer_type)) is expected


def test_grading_works_inside_an_event_loop() -> None:
    async def grades() -> list[bool]:
        return [bw.grade("So it is \\boxed{\\sqrt{8}}.", "2\\sqrt{2}", "latex"), await bw.grade_async("#### 7", "8")]

    assert asyncio.run(grades()) == [True, False]


def test_reply_without_an_answer_is_wrong() -> None:
    assert not bw.grade("I do not know.", "7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("7", "7", "numbr"), "answer_type: 'numbr' is unknown; did you mean number?"),
        (("7", "7", "tests"), "answer_type: 'tests' is unknown; did you mean text?"),
        ((7, "7", "number"), "text: got int; give the reply as text"),
        (("#### 7", 7, "number"), "second: got int; give the answer as text"),
    ],
)
def test_invalid_arguments_are_named(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(bw.ConfigError) as raised:
        bw.grade(*arguments)
    assert message in str(raised.value)


def test_evaluation_grades_by_the_same_tasks() -> None:
    assert {name: TASK_NAMES[name] for name in ANSWER_TYPES} == dict(ANSWER_TYPES)
