"""Arithmetic expressions as answers: integers, + - * / and parentheses. The Game-of-24 task and verifier use them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from branchwise.answers.characters import plain
from branchwise.answers.extraction import boxed, last_line, statements
from branchwise.answers.formats import AnswerFormat
from branchwise.answers.statement import retracts
from branchwise.answers.turn import first_stated

_MAX_LENGTH = 200  # characters
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_NOTATIONS = (
    (re.compile(r"\\(?:left|right|quad|[,;!:()\[\]])|[$`]"), ""),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])|[×·⋅∙∗]|(?<=[\d)\]])\s*[xX]\s*(?=[\d(\[])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|[÷∕]"), "/"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
)
_SURROUNDING = " \t\n.,:;*_"  # punctuation and Markdown around an expression
_CHARACTERS = re.compile(r"[\d\s+*/()-]+")
_OPERATIONS = (ast.Add, ast.Sub, ast.Mult, ast.Div)


@dataclass(frozen=True, slots=True)
class Expression(AnswerFormat):
    """An arithmetic expression: in a box, after "Answer:" and the like, or alone on the last line.

    "= 24" may follow it. A single number is not an expression. Expressions that differ only in notation are equal;
    those that differ in the order of operands are not.
    """

    def extract(self, text: str) -> str | None:
        return first_stated(plain(text), self._find)

    def _find(self, text: str) -> str | None:
        for candidate in _candidates(text):
            if retracts(candidate):
                return ""
            if (found := read_expression(candidate)) is not None:
                return ast.unparse(found)
        return None

    def normal(self, answer: str) -> str:
        found = read_expression(answer)
        return answer.strip() if found is None else ast.unparse(found)


def _candidates(text: str) -> Iterator[str]:
    if (found := boxed(text)) is not None:
        yield found
    yield from statements(text)
    yield last_line(text)


def read_expression(text: str) -> ast.BinOp | None:
    """Parse the first side of an equation that contains an operation, or None if there is no such side.

    A text without "=" is one side. All sides must be arithmetic; their values need not be equal.
    """
    if len(text) > _MAX_LENGTH:
        return None
    while (plain := _FRACTION.sub(r"((\1)/(\2))", text)) != text and len(plain) <= 2 * _MAX_LENGTH:
        text = plain
    for notation, plain in _NOTATIONS:
        text = notation.sub(plain, text)
    sides = [_arithmetic(side.strip(_SURROUNDING)) for side in text.split("=")]
    if any(side is None for side in sides):
        return None
    return next((side for side in sides if isinstance(side, ast.BinOp)), None)


def _arithmetic(text: str) -> ast.expr | None:
    """Parse integers and the four operations; None if the text contains anything else."""
    if not _CHARACTERS.fullmatch(text):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return tree if _is_arithmetic(tree) else None


def _is_arithmetic(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, _OPERATIONS) and _is_arithmetic(node.left) and _is_arithmetic(node.right)
    return isinstance(node, ast.Constant) and type(node.value) is int


def numbers(node: ast.expr) -> list[int]:
    """Return the numbers of an expression, in order."""
    if isinstance(node, ast.BinOp):
        return numbers(node.left) + numbers(node.right)
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return [node.value]


def value(node: ast.expr) -> Fraction | None:
    """Return the exact value of an expression; None if it divides by zero."""
    if not isinstance(node, ast.BinOp):
        return Fraction(*numbers(node))
    left, right = value(node.left), value(node.right)
    if left is None or right is None or (isinstance(node.op, ast.Div) and not right):
        return None
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case _:
            return left / right
