"""Words next to numbers: units, scales such as "million", and mathematical words, which are never units."""

import re
from fractions import Fraction

MATHEMATICAL = re.compile(
    r"pi|sqrt|root|cbrt|(?:arc)?(?:sin|cos|tan)h?|cot|csc|log|ln|exp|lim|max|gcd|lcm|mod|modulo"
    r"|alpha|beta|gamma|delta|epsilon|theta|lambda|mu|sigma|tau|phi|psi|omega|infinity|infty|inf"
    r"|choose|factorial|squared|cubed|plus|minus|divided|over|power",
    re.IGNORECASE,
)
"""Names of functions, constants, variables and operations."""

SCALES = {
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "thousand": Fraction(1000),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}
"""Factor of a number that the word follows: "5 million dollars"."""

# Words that extend the answer beyond the number: "5 or 6", "3 and a half", "3 more than x", "2 thirds".
_JOINING = re.compile(
    r"and|or|to|but|if|then|than|not|by|equals|remainder|half|halves|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?"
    r"|ninths?|tenths?|hundredths?|thousandths?",
    re.IGNORECASE,
)
# Single letters that are units after a space: "3 m". Not x, y, n, a, b and the like; "3m" is a product.
_LETTERS = frozenset("mgshLlWVNJKCFA")
# Abbreviations written without a space; other letters there are a product, as in "2ab" or "3m".
_GLUED = re.compile(
    r"°\s?[CFK]?|[kcmµn]m|[kmµ]g|[mcd][lL]|[mµn]s|ft|in|yd|mi|lbs?|oz|mph|kph|hrs?|mins?|secs?|[ap]\.?m\.?"
    r"|[kMG]?Hz|[km][WVNJ]|[KMGT]B|st|nd|rd|th|USD|EUR"
)
_WORD = re.compile(r"°|°?[^\W\d_](?:[^\W\d_]|['’.-])*")
_POWER = re.compile(r"\s?\^\s?\{?-?\d\}?|[²³]")


def is_unit(text: str, apart: bool) -> bool:
    """Return True if the text after a number is a unit; `apart` means that a space separates them.

    "clips", "km/h", "cm^2" and "dollars per hour" are; "x", "pi", "or 6" and "more than x" are not.
    """
    text = _POWER.sub("", text).strip()
    words = re.split(r"\s*/\s*|\s+", text)
    if not apart and not _GLUED.fullmatch(words[0]) and not (words[0] in _LETTERS and "/" in text):
        return False
    if sum(len(word) == 1 for word in words) > 1 and "/" not in text and "°" not in text:
        return False  # a product: "m n"
    return all(_may_be_unit(word) for word in words)


def _may_be_unit(word: str) -> bool:
    if len(word) == 1:
        return word in _LETTERS or word == "°"
    return all(pattern.fullmatch(word) is None for pattern in (MATHEMATICAL, _JOINING)) and bool(_WORD.fullmatch(word))
