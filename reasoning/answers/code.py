"""Python programs as answers: extraction from fenced blocks, and a canonical form for comparison."""

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
_WARNING_FILTERS = threading.Lock()  # warning filters are global to the process
_MAX_LENGTH = 100_000  # characters; longer programs are compared as text


class _Block(NamedTuple):
    """A fenced block."""

    language: str
    code: str
    closed: bool


@dataclass(frozen=True, slots=True)
class Code(AnswerFormat):
    """A Python program: in a fenced block, or the whole text if it is nothing but Python.

    Among several blocks, the last one that defines a function or class is taken, otherwise the last. Blocks of
    other languages are skipped, and so are untagged blocks if any block is tagged as Python. The code is returned
    as written, even if it is only a function's body; `branchwise.verifiers.programs.assemble` completes it.
    Programs that differ only in comments, docstrings and layout are equal.
    """

    def extract(self, text: str) -> str | None:
        blocks = list(_blocks(text))
        if blocks:
            return _last_program(blocks)
        return _strip_blank_lines(text) if _is_program(text) else None

    def extract_cut(self, text: str) -> str | None:
        return _last_program([block for block in _blocks(text) if block.closed])

    def normal(self, answer: str) -> str:
        tree = parse(answer)
        if tree is None:
            return answer.strip()
        try:
            return ast.unparse(_strip_docstrings(tree))
        except (RecursionError, ValueError):
            return answer.strip()

    def display(self, answer: str) -> str:
        return _strip_blank_lines(answer)


def parse(code: str) -> ast.Module | None:
    """Parse a program or a function's body, whose first line may lack its indentation. None if it is neither."""
    if len(code) > _MAX_LENGTH:
        return None
    candidates = (code, textwrap.dedent(code), textwrap.dedent(f"    {code.lstrip()}"))
    return next((tree for candidate in candidates if (tree := parse_program(candidate)) is not None), None)


def parse_program(source: str) -> ast.Module | None:
    """Parse a program without emitting warnings. None if it is not Python or is nested too deeply."""
    with _WARNING_FILTERS, warnings.catch_warnings():
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
        yield _Block(found["language"].lower(), _strip_blank_lines(code), found["open"] is None)


def _last_program(blocks: list[_Block]) -> str | None:
    tagged = [block.code for block in blocks if block.language in _PYTHON and block.code]
    codes = tagged or [block.code for block in blocks if not block.language and parse(block.code) and block.code]
    defining = [code for code in codes if _DEFINITION.search(code)]
    found = defining or codes
    return found[-1] if found else None


def _strip_blank_lines(code: str) -> str:
    """Remove blank lines around the code and keep its indentation."""
    return re.sub(r"\A(?:[ \t]*\n)+", "", code).rstrip()


def _is_program(text: str) -> bool:
    """Return True if the text is Python with a statement other than an expression; "42" and "Yes" are not."""
    tree = parse(text)
    return tree is not None and any(not isinstance(statement, ast.Expr) for statement in tree.body)


def _strip_docstrings(tree: ast.Module) -> ast.Module:
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
