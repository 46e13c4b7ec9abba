"""Arithmetic expressions as answers: whole numbers, + - * / and brackets."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from branchwise.answers.formats import AnswerFormat
from branchwise.answers.places import boxed, last_line, statements
from branchwise.answers.values import retracts

_LONGEST = 200  # characters
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SPELLINGS = (
    (re.compile(r"\\(?:left|right|quad|[,;!:()\[\]])|[$`]"), ""),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])|[×·⋅∙∗]|(?<=[\d)\]])\s*[xX]\s*(?=[\d(\[])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|[÷∕]"), "/"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
)
_AROUND = " \t\n.,:;*_"  # sentence and Markdown marks
_CHARACTERS = re.compile(r"[\d\s+*/()-]+")
_OPERATIONS = (ast.Add, ast.Sub, ast.Mult, ast.Div)


@dataclass(frozen=True, slots=True)
class Expression(AnswerFormat):
    """An expression: in a box, after "Answer:" and the like, or alone on the last line; "= 24" may follow it.

    A number alone is none. Expressions are the same where they differ in spelling, not where their order does.
    """

    def extract(self, text: str) -> str | None:
        for candidate in _candidates(text):
            if retracts(candidate):
                return None
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
    """The first side of an equation, or an expression alone, that does something with numbers; None where there is
    none. The other sides must be arithmetic, too, but need not be equal."""
    if len(text) > _LONGEST:
        return None
    while (plain := _FRACTION.sub(r"((\1)/(\2))", text)) != text and len(plain) <= 2 * _LONGEST:
        text = plain
    for spelling, meant in _SPELLINGS:
        text = spelling.sub(meant, text)
    sides = [_arithmetic(side.strip(_AROUND)) for side in text.split("=")]
    if any(side is None for side in sides):
        return None
    return next((side for side in sides if isinstance(side, ast.BinOp)), None)


def _arithmetic(text: str) -> ast.expr | None:
    """The tree of numbers and the four operations; None where there is anything else in it."""
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
    """The numbers of an expression, in order."""
    if isinstance(node, ast.BinOp):
        return numbers(node.left) + numbers(node.right)
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return [node.value]


def value(node: ast.expr) -> Fraction | None:
    """What an expression comes to, exactly; None where it divides by zero."""
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
