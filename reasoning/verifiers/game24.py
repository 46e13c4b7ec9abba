"""Verifier of the Game of 24: use four numbers once each to make 24."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from branchwise.answers.expression import numbers as numbers_in
from branchwise.answers.expression import read_expression, value
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.prompts.library import TASKS
from branchwise.prompts.task import Task
from branchwise.verifiers.question import question_text

_TARGET = 24
_MOST = 12  # numbers in a question
_ALONE = re.compile(r"\s*\d+(?:[\s,;]+\d+)+[\s.]*")


@dataclass(frozen=True, slots=True)
class Game24:
    """Verifier that scores a path 1.0 if its answer is a solution, else 0.0.

    The numbers are those in the question, the last user turn.
    """

    numbers: tuple[int, ...] | None = None
    """Numbers that replace those of the question."""
    task: Task = TASKS["game24"]
    """Task whose format reads the answers."""

    def __call__(self, path: Path) -> float:
        """Return the score. Raises ConfigError if the question has no numbers."""
        numbers = read_numbers(question_text(path)) if self.numbers is None else self.numbers
        require(bool(numbers), "numbers", "the question has none", "write it as `4 4 6 8`, or pass numbers=")
        answer = self.task.extract(path)
        return float(answer is not None and is_solution(answer, numbers))


def is_solution(expression: str, numbers: Sequence[int]) -> bool:
    """Return whether an expression uses every number once, only + - * / and brackets, and equals 24 exactly.

    It may end in "= 24" and use × ÷ − or simple LaTeX. Any text is accepted.
    """
    tree = read_expression(expression)
    return tree is not None and sorted(numbers_in(tree)) == sorted(numbers) and value(tree) == _TARGET


def read_numbers(question: str) -> tuple[int, ...]:
    """Return the numbers on the last line that has only numbers, or else all numbers; empty if there are too many."""
    alone = [line for line in question.splitlines() if _ALONE.fullmatch(line)]
    found = tuple(map(int, re.findall(r"\d{1,9}", alone[-1] if alone else question)))
    return found if len(found) <= _MOST else ()
