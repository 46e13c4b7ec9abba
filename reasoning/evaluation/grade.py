"""Grading: whether answers mean the reference, and how near texts come to it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from branchwise.answers.groups import AnswerGroups
from branchwise.evaluation.dataset import Row
from branchwise.evaluation.metrics import overlap, resemblance
from branchwise.verifiers.game24 import is_solution, read_numbers
from branchwise.verifiers.programs import UnitTests, assemble


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer is worth."""

    correct: bool
    metrics: Mapping[str, float]
    right: Mapping[str, bool]
    """Of every answer that was asked about."""


async def grade(row: Row, answer: str | None, others: Iterable[str] = ()) -> Grade:
    """Grade an answer, and tell of `others` whether they are right."""
    right = {
        text: await is_correct(row, text) for text in dict.fromkeys([*([] if answer is None else [answer]), *others])
    }
    return Grade(answer is not None and right[answer], _metrics(row, answer), right)


async def is_correct(row: Row, answer: str | None) -> bool:
    """Whether an answer means the same as the row's reference; whether a program passes the row's tests, or an
    expression is a solution. Raises SandboxError where programs can't be run."""
    if answer is None:
        return False
    if row.answer_type == "tests":
        tests = UnitTests(row.tests, row.entry_point, row.test_imports)
        return await asyncio.to_thread(tests.passes, assemble(row.question, answer))
    if row.answer_type == "expression24":
        return is_solution(answer, read_numbers(row.question))
    groups = AnswerGroups(row.task.format)
    return await groups.place(answer) == await groups.place(row.answer)


def _metrics(row: Row, answer: str | None) -> Mapping[str, float]:
    if row.answer_type == "text":
        return overlap(answer, row.answer)
    if row.answer_type == "reference":
        return {**overlap(answer, row.answer), **resemblance(answer, row.answer)}
    return {}
