"""Numbers in English words: "forty-two", "two thirds", "one hundred and five dollars"."""

import re
from collections.abc import Sequence
from fractions import Fraction

from branchwise.answers.units import is_unit, scale

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 10**3, "hundred": 100}
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_NAMES = {*_VALUES, *_SCALES, *_PARTS}
_MAX_WORDS = 32


def read_words(text: str) -> Fraction | None:
    """Return the number that the words name, a unit of one word left aside; None if they name none."""
    words = text.lower().split(maxsplit=_MAX_WORDS)
    if not words or len(words) > _MAX_WORDS:
        return None
    negative = words[0] in ("minus", "negative")
    words = words[negative:]
    number = _number(words)
    if number is None and len(words) > 1 and words[-1] not in _NAMES and is_unit(words[-1], apart=True):
        number = _number(words[:-1])
        number = None if number is None else number * scale(words[-1])
    return -number if negative and number is not None else number


def _number(words: Sequence[str]) -> Fraction | None:
    """Return an integer, a fraction ("two-thirds") or a mixed number ("two and a half")."""
    words = re.sub(r",(?=\s)|(?<=[a-z])-(?=[a-z])", " ", " ".join(words)).split()
    if len(words) < 2 or (part := _part(words[-2], words[-1])) is None:
        value = _integer(words)
        return None if value is None else Fraction(value)
    if len(words) == 2:
        return part
    whole = _integer(words[:-3]) if words[-3] == "and" else None
    return None if whole is None else whole + part


def _part(count: str, name: str) -> Fraction | None:
    one = count in ("a", "an", "one")
    size = _PARTS.get(name if one else "half" if name == "halves" else name.removesuffix("s"))
    if size is None or (not one and (count not in _SMALL[2:13] or name in _PARTS)):
        return None
    return Fraction(1 if one else _VALUES[count], size)


def _integer(words: Sequence[str]) -> int | None:
    """Return the integer whose words these are, with or without "and" after hundreds."""
    if not words:
        return None
    words = ["one" if words[0] in ("a", "an") and len(words) > 1 else words[0], *words[1:]]
    words = [word for i, word in enumerate(words) if word != "and" or words[i - 1] not in _SCALES]
    total = group = 0
    for word in words:
        if word in _VALUES:
            group += _VALUES[word]
        elif word == "hundred":
            group *= 100
        elif word in _SCALES:
            total, group = total + group * _SCALES[word], 0
        else:
            return None
    return total + group if spell(total + group) == words else None


def spell(number: int) -> list[str]:
    """Return the words of an integer below 10**15."""
    if number < 20:
        return [_SMALL[number]]
    if number < 100:
        return [_TENS[number // 10 - 2], *(spell(number % 10) if number % 10 else [])]
    name, size = next((name, size) for name, size in _SCALES.items() if number >= size)
    return [*spell(number // size), name, *(spell(number % size) if number % size else [])]
