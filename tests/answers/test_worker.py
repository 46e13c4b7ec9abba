"""Fingerprints of expressions, as the worker process computes them."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.answers.process import Kind
from branchwise.answers.worker import NoFingerprintError, fingerprint


@pytest.mark.parametrize(
    ("latex", "value"),
    [
        ("\\frac{6}{4}", "3/2"),
        ("\\sqrt{16}", "4"),
        ("\\sqrt{3+2\\sqrt{2}}-\\sqrt{2}", "1"),
        ("e^{i\\pi}", "-1"),
        ("\\sin^2 x+\\cos^2 x", "1"),
        ("x-x", "0"),
        ("\\infty", "oo"),
        ("\\binom{5}{2}", "10"),
        ("\\begin{vmatrix}1&3\\\\2&5\\end{vmatrix}", "-1"),
    ],
)
def test_constants_have_their_exact_value(latex: str, value: str) -> None:
    assert fingerprint(latex) == value


def test_irrational_values_have_thirty_digits() -> None:
    assert fingerprint("\\sqrt{2}") == "1.41421356237309504880168872421"


@pytest.mark.parametrize("tiny", ["e^{-1000}", "\\frac{\\pi}{10^{400}}", "2^{-500}\\sqrt{2}"])
def test_values_beside_a_rational_number_keep_their_distance(tiny: str) -> None:
    values = {fingerprint("1"), fingerprint(f"1-{tiny}"), fingerprint(f"1+{tiny}"), fingerprint(f"1-2{tiny}")}
    assert len(values) == 4


@pytest.mark.parametrize(
    ("kind", "first", "second", "equal"),
    [
        ("equation", "x+y-1", "2-2x-2y", True),
        ("inequality", "x+y-1", "2x+2y-2", True),
        ("inequality", "x+y-1", "1-x-y", False),
        ("equation", "x+y-1", "x-y-1", False),
        ("value", "x+y-1", "2x+2y-2", False),
    ],
)
def test_equations_and_inequalities_ignore_factors(kind: Kind, first: str, second: str, equal: bool) -> None:
    assert (fingerprint(first, kind) == fingerprint(second, kind)) is equal


@pytest.mark.parametrize("latex", ["9^{9^{9^9}}", "12345678901!", "42!!!", "2^{10^8}", "x^{10^9}", "\\frac{1}{0}"])
def test_numbers_beyond_reach_have_no_fingerprint(latex: str) -> None:
    with pytest.raises(NoFingerprintError):
        fingerprint(latex)


_COEFFICIENTS = st.lists(st.integers(-9, 9), min_size=1, max_size=5)


def _polynomial(coefficients: list[int]) -> str:
    return "+".join(f"({c})x^{{{power}}}" for power, c in enumerate(coefficients))


@settings(deadline=None, max_examples=60)
@given(_COEFFICIENTS, _COEFFICIENTS)
def test_polynomials_are_equal_if_their_coefficients_are(first: list[int], second: list[int]) -> None:
    width = max(len(first), len(second))
    padded = [coefficients + [0] * (width - len(coefficients)) for coefficients in (first, second)]
    assert (fingerprint(_polynomial(first)) == fingerprint(_polynomial(second))) is (padded[0] == padded[1])


@settings(deadline=None, max_examples=40)
@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_sums_of_fractions_are_exact(first: Fraction, second: Fraction) -> None:
    parts = "+".join(f"\\frac{{{one.numerator}}}{{{one.denominator}}}" for one in (first, second))
    assert fingerprint(parts) == str(first + second)
