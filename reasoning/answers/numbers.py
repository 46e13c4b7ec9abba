"""Numbers in answers: parsing of the notations that people and models use, and formatting."""

import re
from fractions import Fraction

from branchwise.answers.units import SCALES, is_unit

_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|math(?:rm|bf|it)|mbox)\s*\{([^{}]*)\}")
_JOINED = re.compile(r"(?<=\d)(?:\\[,!]|\{,\}|,\\!\s*)(?=\d{3}(?!\d))")  # thousands: "1{,}234", "1\,234"
_SPACES = re.compile(r"(?<!\\)\\(?:[,;: ]|quad\b|qquad\b)|[~\s]")
# Marks without meaning: delimiters of mathematics, sizes, currency and percent signs.
_DROPPED = re.compile(
    r"(?<!\\)\\[()\[\]!]|\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])|(?<!\\)\\[$%€£]|[$€£¥₹%]"
)
_DEGREES = re.compile(r"\^\s?\{?\\circ\}?|\\degree\b")
_NAME = re.compile(r"^[A-Za-z]\w*(?:_\{\w+\})?(?:\([^()=]*\))?\s*(?:=|\\approx|≈)\s*|^(?:\\approx|≈)\s*")

_NUMBER = re.compile(r"[+-]?(?=\.?\d)(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_FRACTION = re.compile(r"([+-]?)(\d*)\s?\\[dtc]?frac\s*(?:\{([^{}]+)\}\s*\{([^{}]+)\}|(\d)\s*(\d))")
_MIXED = re.compile(r"([+-]?\d+) (\d+)\s*/\s*(\d+)")
_POWER_OF_TEN = re.compile(
    r"(?:([+-]?[\d.]+)\s*(?:\\times|\\cdot|[×·*])\s*)?10\s*\^\s*(?:\{([+-]?\d{1,3})\}|(\d{1,3}))"
)
_REPEATING = re.compile(r"([+-]?)(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_MEASURED = re.compile(r"(?P<number>.*?[\d})])(?P<space>\s*)(?P<unit>(?:°|[^\W\d_])[^\d\\]*[\d}]?)")
_MAX_LENGTH = 400  # characters; longer numbers are not answers, and exact arithmetic on them is slow


def clean(text: str) -> str:
    """Remove the marks that carry no meaning: `$`, `%`, `\\text`, `\\(`, spacing, outer punctuation."""
    text = _JOINED.sub(",", _TEXT.sub(r" \1", text))
    text = _DROPPED.sub("", _SPACES.sub(" ", text)).replace("−", "-")
    text = re.sub(r"\s+", " ", text).strip(' *`"“”')
    while text[-1:] in (".", ",", ";", ":") and not text.endswith("..."):
        text = text[:-1].rstrip(' *`"“”')
    return re.sub(r"^[–-]\s*(?=[\d.\\])", "-", text)


def bare(text: str) -> str:
    """Remove the formatting of a text: bold, quotes, `\\text`, extra white space, the full stop."""
    text = re.sub(r"\s+", " ", _TEXT.sub(r" \1", text).replace("**", ""))
    return text.strip(' .`"“”') or text.strip()


def read_number(text: str) -> Fraction | None:
    """Parse an answer as a number, ignoring units and thousands separators; None if it is not a number.

    "1,234", "1234.0", "72 clips", "\\frac{1}{2}", "1/2", "0.5", "1 1/2", "x = 3", "1e3", "3 \\times 10^5",
    "0.\\overline{3}", "90^\\circ" and "5 million" are numbers; "2x", "5 pi" and "5 or 6" are not. A percent
    sign is a unit: "50%" is 50. A point is decimal: "1.234" is not 1234.
    """
    text = clean(text)
    if len(text) > _MAX_LENGTH:
        return None
    text = _NAME.sub("", _DEGREES.sub("°", text))
    found = _exact(text)
    if found is None and (measured := _MEASURED.fullmatch(text)):
        unit = measured.group("unit")
        if is_unit(unit, apart=bool(measured.group("space"))):
            number = _exact(measured.group("number"))
            return None if number is None else number * SCALES.get(unit.split()[0].lower(), 1)
    return found


def write_number(number: Fraction) -> str:
    """Format a number as a decimal if it has at most 12 decimals, else as a fraction: "72", "12.5", "1/3"."""
    for digits in range(13):
        scaled = number * 10**digits
        if scaled.denominator == 1:
            sign, whole = "-" if scaled < 0 else "", str(abs(scaled.numerator)).rjust(digits + 1, "0")
            return sign + (f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole)
    return str(number)


def _exact(text: str) -> Fraction | None:
    """Parse a number without units."""
    text = text.strip()
    if re.fullmatch(r"\([^(),]*\)|\{[^{},]*\}", text):  # "(1,234)" is a pair
        text = text[1:-1].strip()
    if fraction := _FRACTION.fullmatch(text):
        sign, whole, *parts = fraction.groups()
        return _mixed(sign, whole, _ratio(*(_plain(part) for part in parts if part is not None)))
    if mixed := _MIXED.fullmatch(text):
        whole, top, bottom = mixed.groups()
        return _mixed(whole[:1] if whole[:1] in "+-" else "", whole.lstrip("+-"), _ratio(_plain(top), _plain(bottom)))
    if power := _POWER_OF_TEN.fullmatch(text):
        factor, braced, short = power.groups()
        value = Fraction(1) if factor is None else _plain(factor)
        return None if value is None else value * Fraction(10) ** int(braced or short)
    if repeating := _REPEATING.fullmatch(text):
        sign, whole, fixed, period = repeating.groups()
        part = Fraction(int(fixed or 0) + Fraction(int(period), 10 ** len(period) - 1)) / 10 ** len(fixed)
        return _mixed(sign, whole, part)
    if "/" in text:
        top, _, bottom = text.partition("/")
        return _ratio(_plain(top), _plain(bottom))
    return _plain(text)


def _mixed(sign: str, whole: str, part: Fraction | None) -> Fraction | None:
    """Return the signed sum of `whole`, which may be "", and `part`: "2 1/2" is 2.5."""
    if part is None:
        return None
    value = int(whole or 0) + part
    return -value if sign == "-" else value


def _plain(text: str) -> Fraction | None:
    text = text.strip()
    if not any(c.isdigit() for c in text) or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))


def _ratio(top: Fraction | None, bottom: Fraction | None) -> Fraction | None:
    return None if top is None or not bottom else top / bottom
