"""Examples in a question about a function: doctests, and lines that state a call's value. `programs` runs them."""

import ast
import doctest
import re
from collections.abc import Iterator, Sequence

from branchwise.answers.code import parse_program

_MISSING_SPACE = re.compile(r"^([ \t]*>>>)(?=\S)", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
_RESULT = re.compile(r"\s*(?:#\s*)?(?:={1,2}>|={1,2}|->|[➞→]|(?:should\s+)?returns?\b)[\s:]*")
_LONGEST = 400  # characters; longer lines are skipped
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (ast.Module, ast.ClassDef, *_FUNCTIONS)


def beginning(question: str) -> ast.Module | None:
    """Parse the question as Python if it ends in the function to write; else return None."""
    tree = parse_program(question)
    return tree if tree is not None and tree.body and isinstance(tree.body[-1], _FUNCTIONS) else None


def function(tree: ast.Module) -> str:
    """Return the name of the last function in the program's beginning."""
    last = tree.body[-1]
    assert isinstance(last, _FUNCTIONS)
    return last.name


def examples(question: str) -> Sequence[doctest.Example]:
    """Return the `>>>` examples of a question, of its docstrings if it is Python; empty if they cannot be parsed.

    Without doctests, lines that state the function's value count: `f(3) == 9`, `f(3) ➞ 9`, `f(3) should return 9`.
    """
    tree = beginning(question)
    if tree is None:
        return _doctests(_FENCE.sub("", question))
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)]
    found = [example for text in docstrings for example in _doctests(text)]
    name = function(tree)
    return found or [example for text in docstrings for example in _statements(text, name)]


def _doctests(text: str) -> list[doctest.Example]:
    try:
        found = doctest.DocTestParser().get_examples(_MISSING_SPACE.sub(r"\1 ", text))
    except ValueError:  # inconsistent indentation
        return []
    return [  # a comparison without expected output is meant to be true
        doctest.Example(one.source, "True\n") if not one.want and _is_comparison(one.source) else one for one in found
    ]


def _is_comparison(source: str) -> bool:
    tree = parse_program(source)
    statement = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Compare)


def _statements(text: str, name: str) -> Iterator[doctest.Example]:
    """Yield examples from lines with a call of the function and a literal value, after an optional bullet or "For"."""
    opening = re.compile(rf"(?:\W*|[Ff]or\s+)\b(?={re.escape(name)}\()")
    for line in text.splitlines():
        found = opening.match(line)
        if found is None or len(line) > _LONGEST:
            continue
        for closing in re.finditer(r"\)", line):
            call, rest = line[found.end() : closing.end()], line[closing.end() :]
            if _is_call(call) and (result := _RESULT.match(rest)):
                yield from _stated(call, rest[result.end() :])
                break


def _is_call(text: str) -> bool:
    """Return whether the text is a call with literal arguments."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call):
            return False
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(argument)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False
    return True


def _stated(call: str, value: str) -> Iterator[doctest.Example]:
    """Yield an example if the value is a literal."""
    try:
        known: object = ast.literal_eval(value.strip().rstrip(".,;"))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return
    # None prints nothing
    source, want = (f"({call}) is None", True) if known is None else (call, known)
    yield doctest.Example(f"{source}\n", f"{want!r}\n")
