"""Grading: compares answers with a row's reference, or runs its tests."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from branchwise.evaluation.metrics import overlap, similarity
from branchwise.evaluation.row import Row
from branchwise.prompts.grading import equivalent_async
from branchwise.verifiers.game24 import is_solution, read_numbers
from branchwise.verifiers.programs import UnitTests, assemble


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of an answer, and of the other candidates."""

    correct: bool
    metrics: Mapping[str, float]
    """Text metrics of the answer by name, from 0 to 1."""
    right: Mapping[str, bool]
    """True for each candidate, the answer included, that is correct."""


async def grade(row: Row, answer: str | None, others: Iterable[str] = ()) -> Grade:
    """Return the grade of `answer` and whether each of `others` is correct."""
    candidates = [*([] if answer is None else [answer]), *others]
    right = {text: await is_correct(row, text) for text in dict.fromkeys(candidates)}
    return Grade(answer is not None and right[answer], _metrics(row, answer), right)


async def is_correct(row: Row, answer: str | None) -> bool:
    """Return True if an answer is equivalent to the reference, passes the tests or solves the game of the row.

    Raises SandboxError if the row has tests and programs can't be run here.
    """
    if answer is None:
        return False
    if row.answer_type == "tests":
        tests = UnitTests(row.tests, row.entry_point, row.test_imports)
        return await asyncio.to_thread(tests.passes, assemble(row.question, answer))
    if row.answer_type == "expression24":
        return is_solution(answer, read_numbers(row.question))
    return await equivalent_async(answer, row.answer, "text" if row.answer_type == "reference" else row.answer_type)


def _metrics(row: Row, answer: str | None) -> Mapping[str, float]:
    if row.answer_type == "text":
        return overlap(answer, row.answer)
    if row.answer_type == "reference":
        return {**overlap(answer, row.answer), **similarity(answer, row.answer)}
    return {}
