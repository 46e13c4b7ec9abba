"""Numbers: parsing of the notations in answers, and formatting."""

import unicodedata
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.answers.number_words import spell
from branchwise.answers.numbers import read_number, write_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", 72),
        ("72.0", 72),
        ("1,234", 1234),
        ("12,34", None),
        ("$1,234.50", Fraction("1234.5")),
        ("\\$18", 18),
        ("-3", -3),
        ("−3", -3),
        ("50%", 50),
        ("50\\%", 50),
        ("1/2", Fraction(1, 2)),
        ("\\frac{1}{2}", Fraction(1, 2)),
        ("\\dfrac12", Fraction(1, 2)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("1e3", 1000),
        ("72 clips", 72),
        ("72 \\text{ clips}", 72),
        ("12 cm^2", 12),
        ("\\(72\\)", 72),
        ("**72**", 72),
        ("72.", 72),
        ("x = 3", 3),
        ("3:30", None),
        ("1/0", None),
        ("five", 5),
        ("", None),
        ("2x", None),
        ("2 x", None),
        ("5 pi", None),
        ("10 mod 3", None),
        ("5 or 6", None),
        ("3 and 4", None),
        ("3 or more", None),
        ("2n", None),
        ("2ab", None),
        ("3 m", 3),
        ("5km", 5),
        ("5 km/h", 5),
        ("10 dollars per hour", 10),
        ("12 square meters", 12),
        ("90^\\circ", 90),
        ("90°", 90),
        ("3 m/s", 3),
        ("3 p.m.", 3),
        ("3 and a half", None),
        ("3 more than x", None),
        ("2 thirds", None),
        ("2 \\text{ or } 3", None),
        ("5 m n", None),
        ("3m", None),
        ("3i", None),
        ("5 minutes", 5),
        ("12\\text{ cm}^2", 12),
        ("12\\,\\mathrm{cm^2}", 12),
        ("25^{\\circ}\\text{C}", 25),
        ("72 students'", 72),
        ("12 kilowatt-hours", 12),
        ("1/2 cup", Fraction(1, 2)),
        ("\\frac{1}{2} cup", Fraction(1, 2)),
        ("3/4 of the cake", Fraction(3, 4)),
        ("5 million", 5_000_000),
        ("$1.5 million", 1_500_000),
        ("2 dozen eggs", 24),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        ("-2\\frac12", Fraction(-5, 2)),
        ("50/100", Fraction(1, 2)),
        ("1.234", Fraction("1.234")),
        ("1{,}234", 1234),
        ("1\\,234", 1234),
        ("11,\\! 111,\\! 100", 11_111_100),
        ("3 \\times 10^5", 300_000),
        ("1.2 × 10^{-3}", Fraction("0.0012")),
        ("10^3", 1000),
        ("0.\\overline{3}", Fraction(1, 3)),
        ("0.1\\overline{6}", Fraction(1, 6)),
        ("f(2) = 3", 3),
        ("x \\approx 3.14", Fraction("3.14")),
        ("- 5", -5),
        ("–5", -5),
        ("(5)", 5),
        ("(1,234)", None),
        ("5!", None),
        ("7th", 7),
        ("5 percent", 5),
        ("seventy-two", 72),
        ("x^2", None),
        ("9" * 500, None),
        ("12,34,567", 1_234_567),
        ("1,00,000", 100_000),
        ("12,345,6", None),
        ("0,123", None),
        ("1 234", 1234),
        ("1\\ 000\\ 000", 1_000_000),
        ("1\\thinspace 234", 1234),
        ("1\u202f234,56", Fraction("1234.56")),
        ("1 2 3", None),
        ("12 34", None),
        ("0 123", None),
        ("1'234.50", Fraction("1234.5")),
        ("1’234", 1234),
        ("1_234", 1234),
        ("2516_8", None),
        ("2.500,75", Fraction("2500.75")),
        ("1.234.567", 1_234_567),
        ("1,5", None),
        ("½", Fraction(1, 2)),
        ("2½ hours", Fraction(5, 2)),
        ("-2⅞", Fraction(-23, 8)),
        ("2\\ \\tfrac{1}{2}", Fraction(5, 2)),
        ("\\nicefrac{1}{2}", Fraction(1, 2)),
        ("\\frac1{12}", Fraction(1, 12)),
        ("3×10⁵", 300_000),
        ("3 x 10^5", 300_000),
        ("2.5 × 10^(-3)", Fraction("0.0025")),
        ("2 * 10**5 km", 200_000),
        ("1.5\\text{e-3}", Fraction("0.0015")),
        ("10⁵", 100_000),
        ("$5k", 5000),
        ("€2.5M", 2_500_000),
        ("5k", None),
        ("$5k$", None),
        ("US$ 5", 5),
        ("₹12,34,567", 1_234_567),
        ("Rs. 500", 500),
        ("negative 5", -5),
        ("2 lakh", 200_000),
        ("5 millones de euros", 5_000_000),
        ("5万元", 50_000),
        ("42個", 42),
        ("42입니다", 42),
        ("72 कलम", 72),
        ("5 яблок", 5),
        ("42元/天", 42),
        ("5人以上", None),
        ("5或6", None),
        ("5 oder 6", None),
        ("2π", None),
        ("37℃", 37),
        ("🎉42🎉", 42),
        ("twelve apples", 12),
        ("two dozen", 24),
        ("2 hundred thousand dollars", 200_000),
        ("minus one hundred and five", -105),
        ("two million three hundred thousand and one", 2_300_001),
        ("two-thirds", Fraction(2, 3)),
        ("two and a half", Fraction(5, 2)),
        ("twenty and two", None),
        ("two three", None),
        ("two point five", None),
        ("two-fold", None),
        ("one of them", None),
        ("someone", None),
        ("2019-05-03", None),
        ("12/26/2020", None),
        ("10:30", None),
        ("1.2.3", None),
        ("555-1234", None),
        ("+1 (555) 123-4567", None),
        ("192.168.1.1", None),
        ("AB 123 456", None),
        ("\u0663", 3),
    ],
)
def test_read_number_parses_common_notations(text: str, number: int | Fraction | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [(Fraction(25, 2), "12.5"), (Fraction(1, 3), "1/3"), (Fraction(-1, 20), "-0.05"), (Fraction(72), "72")],
)
def test_write_number_prefers_short_decimals(number: Fraction, text: str) -> None:
    assert write_number(number) == text


def test_exponent_without_digits_is_not_a_number() -> None:
    assert all(read_number(text) is None for text in ("e0", "e", "-E5", "e.g."))


def grouped_in_india(digits: str) -> str:
    head, tail = digits[:-3], digits[-3:]
    pairs = [head[max(0, end - 2) : end] for end in range(len(head), 0, -2)]
    return ",".join([*reversed(pairs), tail])


DIGITS = [digit for digit in map(chr, range(0x20000)) if unicodedata.decimal(digit, None) == 0]
NOTATIONS: dict[str, Callable[[str, str], str]] = {
    "plain": lambda whole, part: f"{whole}.{part}",
    "commas": lambda whole, part: f"{int(whole):,}.{part}",
    "LaTeX commas": lambda whole, part: f"{int(whole):,}.{part}".replace(",", "{,}"),
    "thin spaces": lambda whole, part: f"{int(whole):,}.{part}".replace(",", "\\,"),
    "spaces": lambda whole, part: f"{int(whole):,}.{part}".replace(",", "\u202f"),
    "apostrophes": lambda whole, part: f"{int(whole):,}.{part}".replace(",", "’"),
    "India": lambda whole, part: f"{grouped_in_india(whole)}.{part}",
    "fraction": lambda whole, part: rf"\dfrac{{{whole}{part}}}{{{10 ** len(part)}}}",
    "mixed": lambda whole, part: rf"{whole}\frac{{{part}}}{{{10 ** len(part)}}}",
    "power": lambda whole, part: rf"{whole}{part} \times 10^{{-{len(part)}}}",
    "typed power": lambda whole, part: f"{whole}{part}e-{len(part)}",
    "money": lambda whole, part: f"${int(whole):,}.{part}",
    "unit": lambda whole, part: f"{whole}.{part} kg",
    "full width": lambda whole, part: f"{whole}.{part}".translate({i: i + 0xFEE0 for i in range(0x21, 0x7F)}),
}


@pytest.mark.parametrize("notation", NOTATIONS)
@given(st.integers(1, 10**12), st.integers(0, 999), st.sampled_from(["", "-", "−", "–"]), st.sampled_from(DIGITS))
def test_numbers_in_any_notation_and_script_are_read_back(
    notation: str, whole: int, thousandths: int, sign: str, zero: str
) -> None:
    written = sign + NOTATIONS[notation](str(whole), f"{thousandths:03}")
    if notation in ("plain", "commas", "unit"):
        written = written.translate({ord("0") + value: chr(ord(zero) + value) for value in range(10)})
    value = whole + Fraction(thousandths, 1000)
    assert read_number(written) == (-value if sign else value)


@given(st.integers(0, 10**15 - 1))
def test_words_are_read_back(number: int) -> None:
    words = spell(number)
    assert read_number(" ".join(words)) == number
    assert read_number("-".join(words)) == number
    assert read_number(f"minus {' '.join(words)} apples") == -number
