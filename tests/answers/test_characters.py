"""Characters of other scripts and keyboards."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.answers.characters import plain, visible


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("７２", "72"),
        ("٧٢", "72"),
        ("۷۲", "72"),
        ("৭২", "72"),
        ("७२", "72"),
        ("๗๒", "72"),
        ("౭౨", "72"),
        ("𝟕𝟐", "72"),
        ("7️⃣2️⃣", "72"),
        ("（Ｃ）", "(C)"),
        ("Ⓒ", "(C)"),
        ("⒞", "(c)"),
        ("ｘ＝５；ｙ＜６", "x=5;y<6"),
        ("１，２３４．５", "1,234.5"),
        ("١٬٢٣٤٫٥", "1,234.5"),
        ("答案是42。因为", "答案是42. 因为"),
        ("「42」。", '"42". '),
        ("उत्तर 42 है। अतः", "उत्तर 42 है.  अतः"),
        ("3、5、7", "3, 5, 7"),
        ("−5", "-5"),
        ("﹣5", "-5"),
        ("⁻5", "-5"),
        ("﹙5﹚﹕", "(5):"),
        ("－5", "-5"),
        ("‑5", "-5"),
        ("–5", "-5"),
        ("is —5", "is -5"),
        ("(–√2, –\\pi)", "(-√2, -\\pi)"),
        ("5–6", "5–6"),
        ("5 – that is", "5 – that is"),
        ("well—5 of them", "well—5 of them"),
        ("10⁵", "10^{5}"),
        ("10⁻¹²", "10^{-12}"),
        ("xⁿ⁺¹", "x^{n+1}"),
        ("x₁₂", "x_{12}"),
        ("½", "\\frac{1}{2}"),
        ("2⅞", "2\\frac{7}{8}"),
        ("1⁄2", "1/2"),
        ("¹¹⁄₁₆", "\\frac{11}{16}"),
        ("1’234", "1'234"),
        ("𝑥 + 𝜋", "x + π"),
        ("ℝ", "ℝ"),
        ("37℃", "37°C"),
    ],
)
def test_plain_writes_numbers_and_brackets_in_ascii(text: str, read: str) -> None:
    assert plain(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("\u200b42", "42"),
        ("\u206642\u2069", "42"),
        ("\u202b٤٢\u202c", "٤٢"),
        ("\ufeff42", "42"),
        ("4\u200d2", "42"),
        ("1\u202f234", "1 234"),
        ("1\xa0234", "1 234"),
        ("is\u202842", "is\n42"),
        ("is\r\n42\r", "is\n42\n"),
        ("cafe\u0301", "caf\u00e9"),
        ("½ ７２ x²", "½ ７２ x²"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
    ],
)
def test_visible_changes_only_marks_spaces_and_line_breaks(text: str, read: str) -> None:
    assert visible(text) == read


@given(st.text())
def test_plain_of_plain_text_is_the_same_text(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert plain(visible(text)) == plain(text)


@given(st.text(st.characters(max_codepoint=127, exclude_characters="\r\v\f")))
def test_ascii_text_is_returned_as_it_is(text: str) -> None:
    assert plain(text) == visible(text) == text


@given(st.integers(), st.sampled_from([digit for digit in map(chr, range(0x20000)) if digit.isdecimal()]))
def test_integers_in_the_digits_of_any_script_are_read(number: int, digit: str) -> None:
    zero = ord(digit) - unicodedata.decimal(digit)
    written = str(number).translate({ord("0") + value: chr(zero + value) for value in range(10)})
    assert int(plain(written)) == number
