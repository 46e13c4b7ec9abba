"""Numbers: parsing of the notations in answers, and formatting."""

from fractions import Fraction

import pytest

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
        ("five", None),
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
        ("seventy-two", None),
        ("x^2", None),
        ("9" * 500, None),
        ("\u0663", None),
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
