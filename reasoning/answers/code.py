"""Programs as answers: where they stand in a text, and when two are the same."""

import ast
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from branchwise.answers.formats import AnswerFormat

_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)[^\n`]*\n"
    r"(?P<code>.*?)(?:^[ \t]*(?P=fence)[ \t]*$|(?P<open>\Z))",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = ("python", "python3", "py")
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)\b", re.MULTILINE)
_FILTERS = threading.Lock()  # those of warnings are the process's
_LONGEST = 100_000  # characters that are compared as programs rather than as text


class _Block(NamedTuple):
    """A fenced block."""

    language: str
    code: str
    closed: bool


@dataclass(frozen=True, slots=True)
class Code(AnswerFormat):
    """A Python program: in a fenced block, or the whole text where it is nothing but Python.

    Of several blocks it is the last one that defines something, else the last; those of other languages don't
    count, nor those of none where there are some of Python. The code is as it was written, a function's body alone
    included: `branchwise.verifiers.programs.assemble` makes a whole program of it. Programs are the same
    where they differ in comments, docstrings and layout.
    """

    def extract(self, text: str) -> str | None:
        blocks = list(_blocks(text))
        if blocks:
            return _chosen(blocks)
        return _trimmed(text) if _is_program(text) else None

    def extract_cut(self, text: str) -> str | None:
        return _chosen([block for block in _blocks(text) if block.closed])

    def normal(self, answer: str) -> str:
        tree = parse(answer)
        if tree is None:
            return answer.strip()
        try:
            return ast.unparse(_without_docstrings(tree))
        except (RecursionError, ValueError):
            return answer.strip()

    def display(self, answer: str) -> str:
        return _trimmed(answer)


def parse(code: str) -> ast.Module | None:
    """A program, or the body of a function, whose first line may have lost its indentation; None if it is neither."""
    if len(code) > _LONGEST:
        return None
    candidates = (code, textwrap.dedent(code), textwrap.dedent(f"    {code.lstrip()}"))
    return next((tree for candidate in candidates if (tree := parse_program(candidate)) is not None), None)


def parse_program(source: str) -> ast.Module | None:
    """A program's tree; None where it is no Python, or too deep. What Python would warn of is not said."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _blocks(text: str) -> Iterator[_Block]:
    for found in _FENCE.finditer(text):
        code = found["code"]
        if indent := found["indent"]:  # a block in a list
            code = "\n".join(line.removeprefix(indent) for line in code.split("\n"))
        yield _Block(found["language"].lower(), _trimmed(code), found["open"] is None)


def _chosen(blocks: list[_Block]) -> str | None:
    tagged = [block.code for block in blocks if block.language in _PYTHON and block.code]
    codes = tagged or [block.code for block in blocks if not block.language and parse(block.code) and block.code]
    defining = [code for code in codes if _DEFINITION.search(code)]
    found = defining or codes
    return found[-1] if found else None


def _trimmed(code: str) -> str:
    """Without the empty lines around it; its indentation stays."""
    return re.sub(r"\A(?:[ \t]*\n)+", "", code).rstrip()


def _is_program(text: str) -> bool:
    """Whether a text is Python and does something: "42" and "Yes" do not."""
    tree = parse(text)
    return tree is not None and any(not isinstance(statement, ast.Expr) for statement in tree.body)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
