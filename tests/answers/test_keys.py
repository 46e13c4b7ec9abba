"""Keys of answers: equal in every notation of an answer, different for answers that only look or compute alike."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.answers.equivalence import Equivalence
from branchwise.answers.keys import key_of
from branchwise.answers.process import Kind

_PAIRS = [json.loads(line) for line in Path(__file__).with_name("pairs.jsonl").read_text("utf-8").rstrip().split("\n")]
_PIECES = (
    *"0123456789xyzABC+-*/^_=<>()[]{}|,;:.!'$% &√½²°",
    *(
        "\\frac",
        "\\sqrt",
        "\\pi",
        "\\{",
        "\\}",
        "\\ldots",
        "\\pm",
        "\\cup",
        "\\setminus",
        "\\in",
        "\\circ",
        "\\sin",
        "\\\\",
    ),
    *("\\angle", "\\text{", "\\begin{pmatrix}", "\\end{pmatrix}", " and ", " or ", "\\overline", "5C2", "mod", "1.5"),
)


@pytest.fixture(scope="module")
def equivalence() -> Iterator[Equivalence]:
    shared = Equivalence(seconds=30)
    yield shared
    shared.close()


@pytest.mark.parametrize(
    "pair", _PAIRS, ids=lambda pair: f"{pair['first']} {'=' if pair['equal'] else '≠'} {pair['second']}"[:60]
)
def test_pairs_are_equal_or_different(equivalence: Equivalence, pair: dict[str, str | bool]) -> None:
    first, second = str(pair["first"]), str(pair["second"])
    assert equivalence.same(first, second) is pair["equal"]
    assert equivalence.same(second, first) is pair["equal"]


def test_a_numeral_without_its_base_equals_the_numeral_in_any(equivalence: Equivalence) -> None:
    assert equivalence.same("2516", "2516_8")
    assert equivalence.same("2516", "2516_9")
    assert not equivalence.same("2516_8", "2516_9")


def _half(_latex: str, _kind: Kind) -> str:
    return "1/2"


@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_every_text_has_a_hashable_key(text: str) -> None:
    assert hash(key_of(text, _half)) == hash(key_of(text, _half))


@pytest.mark.parametrize("text", ["(" * 499 + "1" + ")" * 499, "\\sqrt" * 200, "1," * 490, "x'" * 480, "1 aa" * 240])
def test_long_answers_have_keys(text: str) -> None:
    assert key_of(text, _half) == key_of(text, _half)


def test_answers_beyond_the_length_limit_are_text(equivalence: Equivalence) -> None:
    assert not equivalence.same("x+" * 2000 + "1", "1" + "+x" * 2000)
    assert equivalence.same("x+" * 2000 + "1", " x+" + "x+" * 1999 + "1")
