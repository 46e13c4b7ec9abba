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
    "lakh": Fraction(10**5),
    "crore": Fraction(10**7),
} | {
    word: Fraction(10**power)
    for power, words in (
        (3, "tausend mille mila тысяч тысячи тысяча"),
        (6, "millón millones millionen millions milione milioni milhão milhões миллион миллиона миллионов млн"),
    )
    for word in words.split()
}
"""Factor of a number that the word follows: "5 million dollars"."""
_CHINESE_SCALES = {"万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}  # "5万元"

# Words that extend the answer beyond the number: "5 or 6", "3 and a half", "3 more than x", "2 thirds".
_JOINING = re.compile(
    r"and|or|to|but|if|then|than|not|by|equals|remainder|half|halves|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?"
    r"|ninths?|tenths?|hundredths?|thousandths?|point|oder|und|ou|et|или|и|.*(?:以上|以下|以内|未満|未满)",
    re.IGNORECASE,
)
# Single letters that are units after a space: "3 m". Not x, y, n, a, b and the like; "3m" is a product.
_LETTERS = frozenset("mgshLlWVNJKCFA")
# Abbreviations written without a space; other letters there are a product, as in "2ab" or "3m".
_GLUED = re.compile(
    r"°\s?[CFK]?|[kcmµn]m|[kmµ]g|[mcd][lL]|[mµn]s|ft|in|yd|mi|lbs?|oz|mph|kph|hrs?|mins?|secs?|[ap]\.?m\.?"
    r"|[kMG]?Hz|[km][WVNJ]|[KMGT]B|st|nd|rd|th|USD|EUR"
)
_WORD = re.compile(r"°|°?[^\W\d_](?:[^\W\d_]|['’.-]|[\u0300-\u1fff])*")  # with the vowel signs of all scripts
# Letters that are no variables, so that a unit follows without a space: "42個", "5км".
_FOREIGN = re.compile(r"[\u0400-\u1fff\u2c00-\ud7ff\uf900-\ufaff]")
_POWER = re.compile(r"\s?\^\s?\{?-?\d\}?|[²³]")


def is_unit(text: str, apart: bool) -> bool:
    """Return True if the text after a number is a unit; `apart` means that a space separates them.

    "clips", "km/h", "cm^2" and "dollars per hour" are; "x", "pi", "or 6" and "more than x" are not.
    """
    text = _POWER.sub("", text).strip()
    words = re.split(r"\s*/\s*|\s+", text)
    glued = _GLUED.fullmatch(words[0]) or _FOREIGN.match(words[0]) or (words[0] in _LETTERS and "/" in text)
    if not apart and not glued:
        return False
    single = [word for word in words if len(word) == 1 and not _FOREIGN.match(word)]
    if len(single) > 1 and "/" not in text and "°" not in text:
        return False  # a product: "m n"
    return all(_may_be_unit(word) for word in words)


def scale(unit: str) -> Fraction:
    """Return the factor that a unit begins with: 1,000,000 for "million dollars", 1 for "dollars"."""
    factor = Fraction(_CHINESE_SCALES.get(unit[0], 1))
    for word in unit.lower().split():
        size = SCALES.get(word) or SCALES.get(word.removesuffix("s"))
        if size is None:
            break
        factor *= size
    return factor


def _may_be_unit(word: str) -> bool:
    if len(word) == 1:
        return word in _LETTERS or word == "°" or _FOREIGN.match(word) is not None
    return all(pattern.fullmatch(word) is None for pattern in (MATHEMATICAL, _JOINING)) and bool(_WORD.fullmatch(word))
