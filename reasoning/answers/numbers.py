"""Reading plain numbers the way people write them in answers."""

import re
from fractions import Fraction

_DROPPED = re.compile(r"\\[!,;: ]|\\(?:left|right|displaystyle)\b|[$€£¥]|\\%|%|\\\$|\^\{?\\circ\}?")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf|textit)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\s*(?:\{([^{}]+)\}\s*\{([^{}]+)\}|(\d)\s*(\d))")
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
# A unit is a word, or one of a few letters after a space: "2x" and "5 pi" are no numbers.
_UNIT = re.compile(
    r"(?P<number>.*?[\d)}])(?P<space>\s*)(?P<unit>[A-Za-z°][A-Za-z°.'\s/-]*)(?:\^\{?\d\}?|²|³)?", re.DOTALL
)
_LETTERS = frozenset("mgshLlWVNJKCFA")
_GLUED = re.compile(r"[kcm]m|[km]g|m[lL]|ft|lbs?|oz|mph|hrs?|mins?|sec|[ap]\.?m\.?|st|nd|rd|th|°[CF]?")
_NO_UNIT = re.compile(
    r"or|and|to|plus|minus|times|over|divided|by|mod|pi|sqrt|sin|cos|tan|log|ln|exp|if|then|than|but|not|equals",
    re.IGNORECASE,
)
_MOST_DIGITS = 400  # longer ones are not answers, and exact arithmetic on them is slow


def clean(text: str) -> str:
    """An answer without the marks that carry no meaning: `$`, `\\text`, spacing, outer punctuation."""
    text = _TEXT.sub(r"\1", text)
    text = _DROPPED.sub("", text).replace("−", "-").replace("\\ ", " ")
    text = re.sub(r"\s+", " ", text).strip()
    while len(text) > 1 and text[-1] in ".,;:" and not text.endswith("..."):
        text = text[:-1].rstrip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("**", "**")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening + closing):
            text = text[len(opening) : -len(closing)].strip()
    return text


def read_number(text: str) -> Fraction | None:
    """The number an answer is, units and thousands separators aside; None when it is something else.

    "1,234", "1234.0", "72 clips", "\\frac{1}{2}", "1/2", "0.5", "1 1/2", "x = 3" and "1e3" are numbers.
    """
    text = clean(text)
    if len(text) > _MOST_DIGITS:
        return None
    text = re.sub(r"^[A-Za-z]\w*\s*=\s*", "", text)
    found = _exact(text)
    if found is None and (match := _UNIT.fullmatch(text)) and _is_unit(match.group("unit"), bool(match.group("space"))):
        found = _exact(match.group("number"))
    return found


def _is_unit(text: str, apart: bool) -> bool:
    """Whether what follows a number names what is counted, `apart` by a space."""
    if not apart:
        return _GLUED.fullmatch(text.strip()) is not None
    words = re.split(r"[\s/-]+", text.strip())
    return all(word in _LETTERS or (len(word) > 1 and not _NO_UNIT.fullmatch(word)) for word in words)


def write_number(number: Fraction) -> str:
    """A number as a decimal where it is a short one, else as a fraction: "72", "12.5", "1/3"."""
    for digits in range(13):
        scaled = number * 10**digits
        if scaled.denominator == 1:
            sign, whole = "-" if scaled < 0 else "", str(abs(scaled.numerator)).rjust(digits + 1, "0")
            return sign + (f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole)
    return str(number)


def _exact(text: str) -> Fraction | None:
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    if fraction := _FRACTION.fullmatch(text):
        sign, top, bottom, short_top, short_bottom = fraction.groups()
        value = _ratio(_plain(top or short_top), _plain(bottom or short_bottom))
        return -value if value is not None and sign == "-" else value
    if mixed := re.fullmatch(r"([+-]?\d+) (\d+)\s*/\s*(\d+)", text):
        whole, part = Fraction(mixed.group(1)), _ratio(Fraction(mixed.group(2)), Fraction(mixed.group(3)))
        return None if part is None else whole + (-part if text.startswith("-") else part)
    if "/" in text:
        top, _, bottom = text.partition("/")
        return _ratio(_plain(top), _plain(bottom))
    return _plain(text)


def _plain(text: str) -> Fraction | None:
    text = text.strip()
    if not any(c.isdigit() for c in text) or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))


def _ratio(top: Fraction | None, bottom: Fraction | None) -> Fraction | None:
    return None if top is None or not bottom else top / bottom
