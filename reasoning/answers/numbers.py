"""Numbers in answers: parsing of the notations that people and models use, and formatting."""

import re
from fractions import Fraction

from branchwise.answers.characters import plain, visible
from branchwise.answers.number_words import read_words
from branchwise.answers.units import is_unit, scale

_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|math(?:rm|bf|it)|mbox)\s*\{([^{}]*)\}")
_EXPONENT = re.compile(r"(?<=\d)\s*\\(?:text|math)(?:rm)?\s*\{\s*([eE][+-]?\d{1,3})\s*\}")  # "1.5\text{e-3}"
_JOINED = re.compile(r"(?<=\d)(?:\\[,!]|\{\\?,\}|,\\!\s*)(?=\d{3}(?!\d))")  # thousands: "1{,}234", "1\,234"
_SPACES = re.compile(r"(?<!\\)\\(?:[,;: ]|quad\b|qquad\b|thinspace\b)|[~\s]")
# Marks without meaning: delimiters of mathematics, sizes, currency and percent signs.
_DROPPED = re.compile(
    r"(?<!\\)\\[()\[\]!]|\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])"
    r"|(?<![A-Za-z])(?:US|HK|NT|AU|CA|R)\\?\$(?=\s*\d)|(?<!\\)\\[$%€£]|[$%¢£¥৳฿₠-₿]"
)
_DEGREES = re.compile(r"\^\s?\{?\\circ\}?|\\degree\b")
# "$5k" is money, a bare "5k" a product.
_SHORT = re.compile(r"^\\?[$€£₹]\s?(\d[\d.,]*)\s?([kKmMbB])(?=\W*$)(?!.*\$)")
_SHORT_SCALES = {"k": "thousand", "m": "million", "b": "billion"}
_NAME = re.compile(r"^[A-Za-z]\w*(?:_\{\w+\})?(?:\([^()=]*\))?\s*(?:=|\\approx|≈)\s*|^(?:\\approx|≈)\s*")
_MONEY = re.compile(r"^(?:USD|EUR|GBP|INR|CHF|JPY|CNY|RMB|Rs\.?)\s?(?=\d)")
_SIGN_WORD = re.compile(r"^(?:minus|negative)\s+(?=\S)", re.IGNORECASE)

# A group of thousands starts with 1 to 9: "0,123" is not one. Two readings, "12,345,6" and "(1,234)", are lists.
_WHOLE = (
    r"[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}"  # 1,234,567 and Indian 12,34,567
    r"|[1-9]\d{0,2}(?:(?: \d{3})+|(?:'\d{3})+|(?:_\d{3})+)|\d+"  # 1 234 567, Swiss 1'234'567, typed 1_234_567
)
_NUMBER = re.compile(rf"[+-]?(?=\.?\d)(?:{_WHOLE})?(?:\.\d+)?(?:[eE][+-]?\d{{1,3}})?")
# The comma is decimal only after points or spaces that group: "2.500,75". A single point is decimal: "1.234".
_CONTINENTAL = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:\.\d{3}){2,}|(?:\.\d{3})+,\d+|(?: \d{3})+,\d{1,2})")
_FRACTION = re.compile(r"([+-]?)\s?(\d*)\s?\\(?:[dtcs]?|nice)frac\s*(?:\{([^{}]+)\}|(\d))\s*(?:\{([^{}]+)\}|(\d))")
_MIXED = re.compile(r"([+-]?\d+) (\d+)\s*/\s*(\d+)")
_POWER_OF_TEN = re.compile(
    r"(?:([+-]?[\d.,]+)\s*(?:\\times|\\cdot|\\ast|[×·⋅∙*xX])\s*|([+-]))?"
    r"10\s*(?:\^|\*\*)\s*(?:[{(]\s*([+-]?\d{1,3})\s*[})]|([+-]?\d{1,3}))"
)
_REPEATING = re.compile(r"([+-]?)(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_MEASURED = re.compile(r"(?P<number>.*?[\d})])(?P<space>\s*)(?P<unit>(?:°|[^\W\d_])[^\d\\]*[\d}]?)")
_MAX_LENGTH = 400  # characters; longer numbers are not answers, and exact arithmetic on them is slow


def clean(text: str) -> str:
    """Remove the marks that carry no meaning: `$`, `%`, `\\text`, `\\(`, spacing, outer punctuation and emoji.

    Characters of other scripts become plain ones (characters.py).
    """
    text = _EXPONENT.sub(r"\1", plain(text))
    text = _SHORT.sub(lambda found: f"{found[1]} {_SHORT_SCALES[found[2].lower()]}", text.strip(" *"))
    text = _JOINED.sub(",", _TEXT.sub(r" \1", text))
    text = _strip_formatting(re.sub(r"\s+", " ", _DROPPED.sub("", _SPACES.sub(" ", text))))
    return re.sub(r"^[–-]\s*(?=[\d.\\])", "-", text)


def _strip_formatting(text: str) -> str:
    """Remove spaces, Markdown, quotes and emoji from both ends, and punctuation from the end."""
    begin, end = 0, len(text)
    while end and (_is_formatting(text[end - 1]) or (text[end - 1] in ".,;:" and text[end - 3 : end] != "...")):
        end -= 1
    while begin < end and _is_formatting(text[begin]):
        begin += 1
    return text[begin:end]


def _is_formatting(character: str) -> bool:
    return (
        character in ' *`"'
        or "\u2600" <= character <= "\u27bf"
        or "\u2b00" <= character <= "\u2bff"
        or "\U0001f000" <= character <= "\U0001faff"
    )


def bare(text: str) -> str:
    """Remove the formatting of a text: bold, quotes, `\\text`, extra white space, the full stop."""
    text = re.sub(r"\s+", " ", _TEXT.sub(r" \1", visible(text)).replace("**", ""))
    text = re.sub(r"^\s*\*(?!\s)([^*]+)(?<!\s)\*(?=\W*$)", r"\1", text)
    return text.strip(' .。।`"“”「」『』【】') or text.strip()


def read_number(text: str) -> Fraction | None:
    """Parse an answer as a number, ignoring units and thousands separators; None if it is not a number.

    "1,234", "1234.0", "72 clips", "\\frac{1}{2}", "1/2", "0.5", "1 1/2", "x = 3", "1e3", "3 \\times 10^5",
    "0.\\overline{3}", "90^\\circ", "5 million", "2½" and "twelve" are numbers; "2x", "5 pi" and "5 or 6" are not.
    A percent sign is a unit: "50%" is 50. Thousands are grouped as in 1,234,567, 12,34,567, 1 234 567 and 1'234'567.
    A point is decimal and a comma is not ("1.234" is not 1234, "1,5" is a list), except in "2.500,75" and "1.234.567".
    """
    if len(text) > _MAX_LENGTH:
        return None
    text = clean(text)
    if not any(character.isdigit() for character in text):
        return read_words(text)
    text = _MONEY.sub("", _NAME.sub("", _DEGREES.sub("°", text)))
    found = _exact(_SIGN_WORD.sub("-", text))
    if found is None and (measured := _MEASURED.fullmatch(text)):
        unit = measured.group("unit")
        if is_unit(unit, apart=bool(measured.group("space"))):
            number = _exact(measured.group("number"))
            return None if number is None else number * scale(unit)
    return read_words(text) if found is None else found


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
        factor, sign, braced, short = power.groups()
        value = Fraction(f"{sign or '+'}1") if factor is None else _plain(factor)
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
    if text.isascii() and any(c.isdigit() for c in text):
        if _NUMBER.fullmatch(text):
            return Fraction(re.sub("[, '_]", "", text))
        if _CONTINENTAL.fullmatch(text):
            return Fraction(re.sub("[. ]", "", text).replace(",", "."))
    return None


def _ratio(top: Fraction | None, bottom: Fraction | None) -> Fraction | None:
    return None if top is None or not bottom else top / bottom
