"""The Game of 24: four numbers, each used once, make 24."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from branchwise.answers.expression import numbers as numbers_in
from branchwise.answers.expression import read_expression, value
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.prompts.library import TASKS
from branchwise.prompts.task import Task
from branchwise.verifiers.question import asked

_TARGET = 24
_MOST = 12  # numbers of a question
_ALONE = re.compile(r"\s*\d+(?:[\s,;]+\d+)+[\s.]*")


@dataclass(frozen=True, slots=True)
class Game24:
    """Scores a path 1 where its answer is a solution, else 0: use it as `verifier`.

    The numbers are those of the question, the last user turn.
    """

    numbers: tuple[int, ...] | None = None
    """To be used in place of the question's."""
    task: Task = TASKS["game24"]
    """How answers are read."""

    def __call__(self, path: Path) -> float:
        """Raises ConfigError where the question has no numbers."""
        numbers = read_numbers(asked(path)) if self.numbers is None else self.numbers
        require(bool(numbers), "numbers", "the question has none", "ask it as `4 4 6 8`, or give them")
        answer = self.task.extract(path)
        return float(answer is not None and is_solution(answer, numbers))


def is_solution(expression: str, numbers: Sequence[int]) -> bool:
    """Whether an expression uses every number once, nothing but + - * / and brackets, and comes to 24 exactly.

    It may be followed by "= 24", and be written with × ÷ − or in simple LaTeX. Raises nothing, whatever it is.
    """
    tree = read_expression(expression)
    return tree is not None and sorted(numbers_in(tree)) == sorted(numbers) and value(tree) == _TARGET


def read_numbers(question: str) -> tuple[int, ...]:
    """The numbers of a question: of the last line that is nothing else, or all there are; () where there are none
    or too many."""
    alone = [line for line in question.splitlines() if _ALONE.fullmatch(line)]
    found = tuple(map(int, re.findall(r"\d{1,9}", alone[-1] if alone else question)))
    return found if len(found) <= _MOST else ()
