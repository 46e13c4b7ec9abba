"""Characters of every script and keyboard, rewritten as the few that the formats read. Not for code or JSON.

`visible` changes nothing that a reader sees. `plain` also rewrites digits, signs, brackets, powers and fractions.
"""

import re
import unicodedata
from functools import cache

# Zero-width spaces, direction marks, soft hyphens and byte order marks.
_INVISIBLE = re.compile(r"[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
# Joiners change the letters beside them in Persian and Indian scripts, and join emoji.
_JOINER = re.compile(r"(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
_LINE_BREAK = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_SPACE = re.compile(r"[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")

_HIGH = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
_LOW = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙᵢₖₘ", "0123456789+-=()nikm", strict=True))
_POWER, _INDEX = re.compile(f"[{''.join(_HIGH)}]+"), re.compile(f"[{''.join(_LOW)}]+")
_FRACTION = re.compile(f"(?<![{''.join(_HIGH)}])({_POWER.pattern})⁄({_INDEX.pattern})")
# A dash in front of a number is a sign. Between two numbers it is a range, and after a space it divides a sentence.
_HIGH_SIGN = re.compile(r"⁻(?<![\w)\]}].)(?=\d)")
_SIGN = re.compile(r"[‒–](?<![\w)\]}°%'\"].)(?=\.?\d|\\(?!\))|[√∛π])|—(?<![^\s(\[{$=,].)(?=\.?\d)")

_ALIKE = {
    "−‐‑﹣": "-",
    "∕⁄": "/",
    "∗": "*",
    "∶": ":",
    "’‘ʼ‛": "'",
    "“”„‟«»「」『』【】": '"',
    "〔": "[",
    "〕": "]",
    "º˚": "°",
    "℃": "°C",
    "℉": "°F",
    "￥": "¥",
    "￡": "£",
    "٫": ".",
    "٬،": ",",
    "、､": ", ",
    "٪": "%",
    "؛": ";",
    "؟": "?",
    "。｡।۔": ". ",
    "\ufe0e\ufe0f\u20e3": "",  # variants of emoji, and keys around digits
}


def visible(text: str) -> str:
    """Return the text composed (NFC), with "\\n" for every line break, " " for every space, no invisible marks."""
    text = _LINE_BREAK.sub("\n", text)
    if text.isascii():
        return text
    return _JOINER.sub("", _SPACE.sub(" ", unicodedata.normalize("NFC", _INVISIBLE.sub("", text))))


def plain(text: str) -> str:
    """Return the text with ASCII digits, signs, brackets and punctuation, and with powers and fractions in LaTeX.

    "７２" and "٧٢" are "72", "（C）" is "(C)", "10⁵" is "10^{5}", "2½" is "2\\frac{1}{2}". ASCII text stays, except
    for its line breaks.
    """
    text = visible(text)
    if text.isascii():
        return text
    text = _HIGH_SIGN.sub("-", text)
    text = _FRACTION.sub(lambda found: rf"\frac{{{_read(found[1], _HIGH)}}}{{{_read(found[2], _LOW)}}}", text)
    text = _POWER.sub(lambda found: f"^{{{_read(found[0], _HIGH)}}}", text)
    text = _INDEX.sub(lambda found: f"_{{{_read(found[0], _LOW)}}}", text)
    text = _rewritten().sub(lambda found: found[0].translate(_table()), text)
    return unicodedata.normalize("NFC", _JOINER.sub("", _SIGN.sub("-", text)))


def _read(characters: str, names: dict[str, str]) -> str:
    return "".join(names[character] for character in characters)


@cache
def _rewritten() -> re.Pattern[str]:
    """Return the pattern of characters to look up; to look up every character takes many times longer."""
    basic = "".join(chr(code) for code in _table() if code < 0x10000)
    return re.compile(f"[{basic}\U00010000-\U0001ffff]+")


@cache
def _table() -> dict[int, str]:
    """Return the replacements of single characters."""
    digits = ((code, unicodedata.decimal(chr(code), None)) for code in range(0x80, 0x20000))
    table = {code: str(digit) for code, digit in digits if digit is not None}
    # Small and full-width forms, and the letters of mathematics except the double-struck ones, which name sets.
    for code in (*range(0xFE50, 0xFE6C), *range(0xFF01, 0xFF5F), *range(0x1D400, 0x1D538), *range(0x1D56C, 0x1D7CC)):
        table[code] = unicodedata.normalize("NFKC", chr(code))
    for code in (*range(0xBC, 0xBF), *range(0x2150, 0x215F), 0x2189):
        top, _, bottom = unicodedata.normalize("NFKC", chr(code)).partition("⁄")
        table[code] = rf"\frac{{{top}}}{{{bottom}}}"
    for first in (0x24B6, 0x24D0, 0x249C):  # letters in circles and in brackets: "Ⓑ", "ⓑ", "⒝"
        table |= {first + index: f"({chr(ord('A' if first == 0x24B6 else 'a') + index)})" for index in range(26)}
    return table | {ord(character): read for characters, read in _ALIKE.items() for character in characters}
