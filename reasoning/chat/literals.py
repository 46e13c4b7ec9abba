"""JSON values in text, as models write them: also with single quotes, trailing commas or Python's constants."""

import ast
import json
import math
import re
from typing import NamedTuple, NoReturn

from pydantic import JsonValue

_TOKEN = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[\[\](){}]", re.DOTALL)
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_MAX_DEPTH = 100  # of brackets in Python's syntax; its parser and `literal_eval` are recursive
_MAX_LENGTH = 100_000
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES = "\\'\"abfnrtvxuUN01234567\n"
_SIGNS = re.compile(r"(?:[-+~]\s*){8}")
_CONSTANTS = {"true": True, "false": False, "null": None}


class Decoded(NamedTuple):
    """A value and the index after its last character."""

    value: JsonValue
    end: int


def decode(text: str, at: int) -> Decoded | None:
    """Decode the object or list that starts at `at`; None if it is invalid."""
    if text[at : at + 1] not in ("{", "["):
        return None
    try:
        value, end = _DECODER.raw_decode(text, at)
        return Decoded(value, end)
    except (ValueError, RecursionError):
        pass
    end = bracket_end(text, at) or at
    node = parse_expression(text[at:end])
    try:
        return None if node is None else Decoded(literal(node), end)
    except ValueError:
        return None


def bracket_end(text: str, at: int) -> int | None:
    """Return the index after the bracket that closes the one at `at`; None if none does."""
    awaited: list[str] = []
    for token in _TOKEN.finditer(text, at, at + _MAX_LENGTH):
        mark = token.group()
        if mark in _CLOSING:
            awaited.append(_CLOSING[mark])
            if len(awaited) > _MAX_DEPTH:
                return None
        elif len(mark) == 1:
            if awaited.pop() != mark:
                return None
            if not awaited:
                return token.end()
    return None


def parse_expression(source: str) -> ast.expr | None:
    """Parse an expression in Python's syntax; None if it is invalid. Strings may hold line breaks."""
    if not source or _SIGNS.search(source):
        return None
    try:
        return ast.parse(_TOKEN.sub(_plain_string, source).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _plain_string(token: re.Match[str]) -> str:
    """Return a string in one line, without escapes that Python does not know."""

    def escape(found: re.Match[str]) -> str:
        return found.group() if found.group(1) in _KNOWN_ESCAPES else f"\\{found.group()}"

    return _ESCAPE.sub(escape, token.group()).replace("\\\n", "").replace("\n", "\\n").replace("\r", "\\r")


def literal(node: ast.expr) -> JsonValue:
    """Return the value of a literal. Raises ValueError if it has no form in JSON."""
    try:
        return _as_json(ast.literal_eval(_Constants().visit(node)))
    except (TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("is not a literal") from error


class _Constants(ast.NodeTransformer):
    """Replaces JSON's constants, which are names in Python."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node


def _as_json(value: object) -> JsonValue:
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [_as_json(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {str(key): _as_json(item) for key, item in value.items()}
        case _:
            raise ValueError(f"{value!r} has no form in JSON")


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _reject(number)


_DECODER = json.JSONDecoder(parse_constant=_reject, parse_float=_finite)
