"""Answers in notation that is no expression: numerals in a base, residues, dates, times of day, ratios, remainders.

Each reader returns the main key and the other keys of an answer, or None if the answer is something else.
"""

import re
from collections.abc import Hashable
from fractions import Fraction
from typing import NamedTuple

from branchwise.answers.numbers import read_number

_BASE_NAMES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BASES = {name: base for base, name in enumerate(_BASE_NAMES, 2)} | {"sixteen": 16}
_BASE = rf"(\d{{1,2}}|{'|'.join(_BASES)})"
_NUMERAL = re.compile(
    r"\(?\s*([0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)\s*\)?\s*"
    rf"(?:_\s*\{{?\s*\(?\s*{_BASE}\s*\)?\s*\}}?|,?\s*(?:in\s+)?base[\s-]{_BASE})"
)
_MODULO = re.compile(
    r"(?P<residue>.*?)[\s,(\\]*?(?:\\[pb]?mod|(?<![A-Za-z])mod(?:ulo)?)(?![A-Za-z])\s*"
    r"(?:\{(?P<braced>[^{}]*)\}|(?P<bare>[\w ]+))\s*\)?"
)
_CONGRUENT = re.compile(r"\\equiv|≡")
_DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})")
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?(?::(\d\d))?\s*(?:([ap])\.?\s?m\b\.?)?", re.IGNORECASE)
_RATIO = re.compile(r"[^:]+(?::[^:]+)+")
_REMAINDER = re.compile(r"(\d+)\s*,?\s*(?:[rR]|remainder|with remainder)\.?\s*(\d+)")


class SpecialKey(NamedTuple):
    """The fields of a `Key`."""

    main: Hashable
    others: frozenset[Hashable] = frozenset()


def special_key(text: str) -> SpecialKey | None:
    """Return the key of an answer in one of these notations."""
    readers = (_numeral, _residue, _date, _time, _ratio, _remainder)
    return next((key for reader in readers if (key := reader(text)) is not None), None)


def _numeral(text: str) -> SpecialKey | None:
    """Read "204_5", "(1A)_{16}" and "204 base 5". The digits alone are equal, whatever the base."""
    if not (found := _NUMERAL.fullmatch(text)):
        return None
    digits, name = found[1].upper(), found[2] or found[3]
    base = int(name) if name.isdecimal() else _BASES[name]
    if not digits[0].isdecimal() and (base <= 10 or len(digits) < 2):
        return None  # a symbol with an index: "a_{10}"
    alone = read_number(digits)
    others = frozenset[Hashable]() if alone is None else frozenset[Hashable]({("number", alone)})
    return SpecialKey(("numeral", digits.lstrip("0") or "0", base), others)


def _residue(text: str) -> SpecialKey | None:
    """Read "x \\equiv 3 \\pmod{5}" and "3 mod 5"."""
    if not (found := _MODULO.fullmatch(text)):
        return None
    modulus = (found["braced"] or found["bare"] or "").replace(" ", "")
    residue = _CONGRUENT.split(found["residue"])[-1].strip(" (\\")
    value = read_number(residue)
    if value is not None and modulus.isdecimal() and int(modulus):
        return SpecialKey(("residue", value % int(modulus), int(modulus)))
    return SpecialKey(("residue", residue.replace(" ", ""), modulus))


def _date(text: str) -> SpecialKey | None:
    """Read "2019-05-03" and "5/3/2019", which are no arithmetic. Their order stays as it is written."""
    found = _DATE.fullmatch(text)
    return None if found is None else SpecialKey(("date", int(found[1]), int(found[3]), int(found[4])))


def _time(text: str) -> SpecialKey | None:
    """Read "4:30", "4:30 p.m." and "4 PM". What could be a ratio equals that ratio, too."""
    found = _TIME.fullmatch(text)
    if found is None or not (found[2] or found[4]):
        return None
    hours, minutes, seconds = (int(found[group] or 0) for group in (1, 2, 3))
    if hours > 24 or minutes > 59 or seconds > 59:
        return None
    half = (found[4] or "").lower()
    ratio = None if half else _ratio(text)
    others = frozenset[Hashable]() if ratio is None else frozenset({ratio.main})
    return SpecialKey(("time", hours, minutes, seconds, half), others)


def _ratio(text: str) -> SpecialKey | None:
    """Read "6:4" as "3:2"."""
    if not _RATIO.fullmatch(text):
        return None
    numbers = [read_number(part) for part in text.split(":")]
    values = [number for number in numbers if number is not None]
    if len(values) < len(numbers) or not all(values):
        return None
    return SpecialKey(("ratio", tuple(Fraction(value / values[0]) for value in values)))


def _remainder(text: str) -> SpecialKey | None:
    """Read "3 R 2" and "3 remainder 2"."""
    found = _REMAINDER.fullmatch(text)
    return None if found is None else SpecialKey(("remainder", int(found[1]), int(found[2])))
