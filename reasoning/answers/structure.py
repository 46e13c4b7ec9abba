"""The structure of a mathematical answer as a hashable key: list, set, tuple, interval, equation, ratio, matrix."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from typing import NamedTuple

from branchwise.answers.brackets import enclosed, split
from branchwise.answers.notation import to_latex
from branchwise.answers.numbers import read_number
from branchwise.answers.process import Kind

COMMANDS = re.compile(r"\\(?:begin|end|operatorname|mathbb|mathcal)\s*\{\w+\*?\}|\\[A-Za-z]+")
"""Commands in LaTeX, with the names in braces that belong to some."""
ELISION = re.compile(r"\\[lcd]?dots[bcimo]?(?![A-Za-z])|\.\.\.|…")
"""Marks of terms that are left out."""

_SEPARATOR = re.compile(r"[,;]\s*(?:(?:and|or)(?![A-Za-z]))?|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\lor(?![A-Za-z])")
_TERM_END = re.compile(r"…|[,;:+*=<>-]|\\(?:cdot|times|le|ge|lt|gt)(?![A-Za-z])")
_SET_OPERATION = re.compile(r"\\(?:cup|cap|setminus|backslash|land|wedge|vee|oplus)(?![A-Za-z])")
_OPERATIONS = {"\\cup": "union"}
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
_RELATIONS = {
    "=": r"=(?!=)",
    "<": r"<(?!=)|\\lt(?![A-Za-z])",
    "<=": r"<=|\\le(?:q|qslant)?(?![A-Za-z])",
    ">": r">(?!=)|\\gt(?![A-Za-z])",
    ">=": r">=|\\ge(?:q|qslant)?(?![A-Za-z])",
    "in": r"\\in(?![A-Za-z])",
    "approx": r"\\approx(?![A-Za-z])",
    "!=": r"!=|\\ne(?:q)?(?![A-Za-z])",
}
_RELATION = re.compile("|".join(_RELATIONS.values()))
_REVERSED = {">": "<", ">=": "<="}
_GREEK = (
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|theta|lambda|mu|rho|sigma|tau|(?:var)?phi|psi|omega|Delta|Omega|ell)"
)
_INDEX = r"(?:\s*_\s*(?:\{[^{}]*\}|\w))?"
_NAME = re.compile(
    rf"\s*(?:m\s?)?(?:[A-Za-z]{_INDEX}|{_GREEK}{_INDEX}|[A-Z]{{2,3}}|[A-Za-z]{{4,}}|\([A-Za-z](?:,\s*[A-Za-z])+\))"
    r"\s*(?:\([^()=]*\))?\s*"
)
_MATRIX = re.compile(
    r"\\begin\{(\w*)matrix\}(.*)\\end\{\1matrix\}|\\begin\{array\}\{[^{}]*\}(.*)\\end\{array\}", re.DOTALL
)
_CASES = re.compile(r"\\begin\{(cases|aligned|align\*?)\}(.*)\\end\{\1\}", re.DOTALL)
_CONSTANT = re.compile(r"-?\d+(?:/\d+)?")

_LOW, _HIGH = ("value", "-oo"), ("value", "oo")
_SETS: dict[str, Hashable] = {
    "\\infty": _HIGH,
    "+\\infty": _HIGH,
    "-\\infty": _LOW,
    "\\mathbb{R}": ("tuple", "(", ")", (_LOW, _HIGH)),
    "\\emptyset": ("set", frozenset()),
    "\\varnothing": ("set", frozenset()),
}

Evaluate = Callable[[str, Kind], str | None]
"""Returns the fingerprint of LaTeX; None or "" without one."""


def as_text(text: str) -> Hashable:
    """Return the key of an answer that is compared as text, without white space."""
    return ("text", re.sub(r"\s+", "", text))


class StructureReader:
    """Reads the structure of an answer in LaTeX."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    def answer(self, latex: str) -> Hashable:
        """Return the main key of an answer, or of a part of one."""
        parts, separators = split(latex, _SEPARATOR)
        items = [one for part in parts if part.strip() for one in _both_signs(part.strip())]
        if len(items) > 1:
            return self._list(items, any("or" in separator for separator in separators))
        return self._item(items[0] if items else latex)

    def other_keys(self, latex: str) -> frozenset[Hashable]:
        """Return the key of the equation "y = 2x + 3", whose main key is that of "2x + 3"."""
        named = _named(latex)
        if named is None or not re.search(r"(?<!\\)[A-Za-z]", COMMANDS.sub("", named.value)):
            return frozenset()
        return frozenset({self._equation(named.name, named.value)})

    def elided(self, text: str) -> Hashable:
        """Return the key of "1, 4, 9, ...": its terms and the marks between them, in order."""
        inner = enclosed(text)
        terms, marks = split(ELISION.sub("…", text if inner is None else inner.content), _TERM_END)
        keys = tuple(self.answer(to_latex(term)) if term.strip() else "" for term in terms)
        return ("elided", keys, tuple(mark.strip() for mark in marks))

    def _list(self, items: Sequence[str], alternatives: bool) -> Hashable:
        """Return the key of a list: a point for "x = 1, y = 2", a union for "x < 1 or x > 3", else a set."""
        named = [_named(item) for item in items]
        values = {one.name: one.value for one in named if one is not None}
        if len(values) == len(items):
            return ("tuple", "(", ")", tuple(self.answer(values[name]) for name in sorted(values)))
        keys = [self._item(item if one is None else one.value) for item, one in zip(items, named, strict=True)]
        if alternatives and all(
            _RELATION.search(item) and _is_interval(key) for item, key in zip(items, keys, strict=True)
        ):
            return ("union", frozenset(keys))
        return _collection(keys)

    def _item(self, text: str) -> Hashable:
        if (known := _SETS.get(text.replace(" ", ""))) is not None:
            return known
        parts, operators = split(text, _SET_OPERATION)
        if len(parts) > 1:
            keys = tuple(self.answer(part) for part in parts)
            commutes = len(set(operators)) == 1 and operators[0] not in ("\\setminus", "\\backslash")
            if not commutes:
                return (tuple(operators), keys)
            return (_OPERATIONS.get(operators[0], operators[0]), frozenset(keys))
        sides, signs = split(text, _RELATION)
        if len(sides) > 1:
            return self._relation(text, [side.strip() for side in sides], list(map(_sign, signs)))
        return self._structure(text)

    def _relation(self, text: str, sides: Sequence[str], signs: Sequence[str]) -> Hashable:
        """Return the key of an equation, an inequality or another relation."""
        named = _NAME.fullmatch(sides[0]) is not None
        if set(signs) <= {"=", "approx"}:
            if len(sides) > 2 or named or "approx" in signs:
                return self.answer(sides[-1])
            return self._equation(*sides)
        if signs == ["in"] and named:
            return self.answer(sides[1])
        if signs == ["!="] and named:
            return ("not", self.answer(sides[1]))
        if set(signs) <= {"<", "<=", ">", ">="}:
            return self._inequality(text, sides, signs)
        return ("relation", tuple(signs), tuple(self.answer(side) for side in sides))

    def _equation(self, left: str, right: str) -> Hashable:
        values = self._evaluate(f"({left})-({right})", "equation")
        if values == "0":  # true for all values: "6 * 7 = 42" states 42
            return self.answer(right)
        return as_text(f"{left}={right}") if values in (None, "", "1") else ("equation", values)

    def _inequality(self, text: str, sides: Sequence[str], signs: Sequence[str]) -> Hashable:
        """Return the key of "x > 2" as the interval (2, oo), of "x + y < 1" as a sign of the difference."""
        if signs[0] in _REVERSED:
            sides, signs = sides[::-1], [_REVERSED.get(sign, "") for sign in signs[::-1]]
        if any(sign not in ("<", "<=") for sign in signs) or len(sides) > 3:
            return as_text(text)
        if len(sides) == 3 and _NAME.fullmatch(sides[1]):
            ends = self.answer(sides[0]), self.answer(sides[2])
            return _interval("(" if signs[0] == "<" else "[", ")" if signs[1] == "<" else "]", ends)
        if len(sides) == 3:
            return as_text(text)
        if _NAME.fullmatch(sides[0]):
            return _interval("(", ")" if signs[0] == "<" else "]", (_LOW, self.answer(sides[1])))
        if _NAME.fullmatch(sides[1]):
            return _interval("(" if signs[0] == "<" else "[", ")", (self.answer(sides[0]), _HIGH))
        values = self._evaluate(f"({sides[0]})-({sides[1]})", "inequality")
        return ("inequality", signs[0], values) if values else as_text(text)

    def _structure(self, text: str) -> Hashable:
        """Return the key of what stands in brackets, of a matrix, or of an expression."""
        if (matrix := _MATRIX.fullmatch(text)) and matrix[1] not in ("v", "V"):
            rows = self._rows(matrix[2] or matrix[3] or "")
            if rows and min(len(rows), *map(len, rows)) == 1:  # a vector, as a row or a column
                return ("tuple", "(", ")", tuple(cell for row in rows for cell in row))
            return ("matrix", rows)
        if cases := _CASES.fullmatch(text):
            lines = [line.replace("&", " ").strip() for line in re.split(r"\\\\", cases[2]) if line.strip()]
            if all(map(_named, lines)):
                return self._list(lines, alternatives=False)
            return ("cases", frozenset(self._rows(cases[2])))
        if (inner := enclosed(text)) is not None:
            return self._enclosed(text, *inner)
        return self._expression(text)

    def _rows(self, content: str) -> tuple[tuple[Hashable, ...], ...]:
        rows = [row for row in re.split(r"\\\\", content) if row.strip()]
        return tuple(tuple(self.answer(cell.strip()) for cell in row.split("&")) for row in rows)

    def _enclosed(self, text: str, opening: str, content: str, closing: str) -> Hashable:
        """Return the key of a set, an interval, a tuple or an expression in brackets."""
        if opening == "\\{" and re.search(r"\\mid(?![A-Za-z])|[|:]", content):
            return as_text(text)  # a set by its condition
        parts, _ = split(content, _SEPARATOR)
        items = [part.strip() for part in parts if part.strip()]
        if len(items) == 1 and not re.search(r"\\pm", content):
            return self._item(items[0]) if opening not in ("\\lfloor", "\\lceil") else self._expression(text)
        if opening in ("\\{", "{"):
            return _collection([self._item(one) for item in items for one in _both_signs(item)])
        keys = tuple(self._item(item) for item in items)
        return _interval(opening, closing, keys) if len(keys) == 2 else ("tuple", "(", ")", keys)

    def _expression(self, text: str) -> Hashable:
        if (number := read_number(text)) is not None:
            return ("number", number)
        if re.fullmatch("[A-Za-z]{2,}", text):
            return ("words", text.casefold())
        values = None if re.search(r"\d\s+\d|\d\s*_", text) else self._evaluate(text, "value")
        if not values:  # "3 000" is no product, and the parser drops an index of a number
            return as_text(text)
        return ("number", Fraction(values)) if _CONSTANT.fullmatch(values) else ("value", values)


class _Named(NamedTuple):
    """A value with its name: "x = 1"."""

    name: str
    value: str


def _named(item: str) -> _Named | None:
    sides, signs = split(item, _RELATION)
    if len(sides) == 2 and _sign(signs[0]) == "=" and _NAME.fullmatch(sides[0]):
        return _Named(re.sub(r"\s+", "", sides[0]), sides[1].strip())
    return None


def _sign(text: str) -> str:
    return next(name for name, pattern in _RELATIONS.items() if re.fullmatch(pattern, text))


def _both_signs(text: str) -> Sequence[str]:
    """Return "a + b" and "a - b" for "a \\pm b", and the text alone without such a sign."""
    if not _PLUS_MINUS.search(text):
        return (text,)
    upper = _PLUS_MINUS.sub(lambda found: "+" if found.group() == "\\pm" else "-", text)
    lower = _PLUS_MINUS.sub(lambda found: "-" if found.group() == "\\pm" else "+", text)
    return upper, lower


def _collection(keys: Sequence[Hashable]) -> Hashable:
    """Return the key of a set, or of a list with repetitions. The set of one value is that value."""
    counts = Counter(keys)
    if len(counts) < len(keys):
        return ("list", frozenset(counts.items()))
    return keys[0] if len(keys) == 1 else ("set", frozenset(keys))


def _interval(opening: str, closing: str, ends: Sequence[Hashable]) -> Hashable:
    """Return the key of an interval, or of a point "(1, 2)", which looks the same."""
    low, high = ends
    opening = "[" if opening == "[" and low != _LOW else "("
    return ("tuple", opening, "]" if closing == "]" and high != _HIGH else ")", (low, high))


def _is_interval(key: Hashable) -> bool:
    return isinstance(key, tuple) and key[0] == "tuple"
