"""The Game of 24: how expressions are read, and which are solutions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import branchwise as bw
from branchwise.answers.expression import Expression, read_expression
from branchwise.core.path import Path, StopReason
from branchwise.verifiers.game24 import Game24, is_solution, read_numbers


@pytest.mark.parametrize(
    ("expression", "numbers"),
    [
        ("(1 + 1) + (11 + 11)", (1, 1, 11, 11)),
        ("(1-1)+3*8", (1, 1, 3, 8)),
        ("(1 + 2) * (2 + 6) = 24", (1, 2, 2, 6)),
        ("24 = (1 + 2) * (2 + 6)", (6, 2, 2, 1)),
        ("8 / (3 - 8 / 3)", (3, 3, 8, 8)),  # thirds, exactly
        ("(1 + 2) × (2 + 6)", (1, 2, 2, 6)),
        ("6 ÷ (1 − 3 ÷ 4)", (1, 3, 4, 6)),
        ("6 x (5 - 1) = 24", (1, 5, 6)),
        ("6 * (5 - 1) = 6 * 4 = 24", (1, 5, 6)),
        (r"\frac{8}{3 - \frac{8}{3}}", (3, 3, 8, 8)),
        (r"$\left(1 + 2\right) \times \left(2 + 6\right) = 24$", (1, 2, 2, 6)),
        (r"\(8 \div (3 - 8 \div 3)\)", (3, 3, 8, 8)),
        ("[(1 + 2) * {2 + 6}]", (1, 2, 2, 6)),
        ("**(1 + 2) * (2 + 6)**.", (1, 2, 2, 6)),
    ],
)
def test_a_solution_is_accepted_however_it_is_written(expression: str, numbers: tuple[int, ...]) -> None:
    assert is_solution(expression, numbers)


@pytest.mark.parametrize(
    ("expression", "numbers"),
    [
        ("", (4, 6)),
        ("24", (24,)),  # does nothing
        ("4 * 6", (4, 6, 1)),  # a number left
        ("4 * 6 * 1 * 1", (4, 6, 1)),  # one used twice
        ("4 * 6 + 0", (4, 6)),  # one of its own
        ("4 * 5", (4, 5)),
        ("46 - 22", (4, 6, 2, 2)),  # digits put together
        ("4_6 - 22", (46, 22)),
        ("8 / (3 - 3)", (3, 3, 8)),
        ("2 ** 4 + 8", (2, 4, 8)),
        ("49 // 2", (49, 2)),
        ("-4 * -6", (4, 6)),
        ("4.0 * 6", (4, 6)),
        ("4 * 6 = twenty-four", (4, 6)),
        ("4 * 6 + len('')", (4, 6)),
        ("__import__('os').system('true') or 4 * 6", (4, 6)),
        ("(4)(6)", (4, 6)),
        ("4 * 6,", (4, 6, 4, 6)),
        ("9**9**9**9", (9, 9, 9, 9)),
        ("(" * 150 + "4 * 6", (4, 6)),
        ("4 * 6" + " + 1 - 1" * 10**6, (4, 6)),
        (r"\frac{4}{\frac{" * 50, (4, 6)),
        ("4 * 6\x00", (4, 6)),
        ("٤ * 6", (4, 6)),
    ],
)
def test_what_is_no_solution_is_not(expression: str, numbers: tuple[int, ...]) -> None:
    assert not is_solution(expression, numbers)


@given(st.text(alphabet="0123456789+-*/() =.x×÷\\frac{}[]$ \n", max_size=40))
def test_any_text_has_a_verdict(text: str) -> None:
    assert is_solution(text, (4, 6)) in (True, False)
    found = read_expression(text)
    if found is not None:  # an answer is its own normal form
        normal = Expression().normal(text)
        assert Expression().normal(normal) == normal


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4 + 8 = 12 (left: 4 6 12)\n6 - 4 = 2\nAnswer: (6 - 4) * (4 + 8) = 24", "(6 - 4) * (4 + 8)"),
        ("So \\boxed{(6 - 4) \\times (4 + 8)}.", "(6 - 4) * (4 + 8)"),
        ("**Answer:** `(6-4)*(4+8)`", "(6 - 4) * (4 + 8)"),
        ("The answer is (6-4)*(4+8).", "(6 - 4) * (4 + 8)"),
        ("First:\n4 * 6 = 24", "4 * 6"),
        ("Answer: 24", None),
        ("I could not find one.", None),
        ("Answer: impossible\n4 * 6", None),
    ],
)
def test_an_expression_is_found_where_answers_stand(text: str, answer: str | None) -> None:
    assert Expression().extract(text) == answer


def test_an_expression_that_was_cut_off_is_none() -> None:
    assert Expression().extract_cut("Answer: 4 * 6") is None
    assert Expression().extract_cut("Answer: (6 - 4) * (4 + 8) = 24\n\nThat is") == "(6 - 4) * (4 + 8)"


@pytest.mark.parametrize(
    ("question", "numbers"),
    [
        ("1 1 11 11", (1, 1, 11, 11)),
        ("Make 24 of these numbers:\n4, 4, 6, 8.", (4, 4, 6, 8)),
        ("Use 4 and 6", (4, 6)),
        ("nothing", ()),
        ("1 " * 50, ()),
    ],
)
def test_the_numbers_of_a_question(question: str, numbers: tuple[int, ...]) -> None:
    assert read_numbers(question) == numbers


def path(question: str, text: str, reason: StopReason = StopReason.END) -> Path:
    turns = (bw.Message(role="system", content="Use 1 2 3."), bw.Message(role="user", content=question))
    return Path(Path(None, 0, (), "", messages=bw.Messages(turns=turns)), 1, (), text, stop_reason=reason)


def test_a_path_is_scored_by_its_answer() -> None:
    verifier = Game24()
    assert verifier(path("4 4 6 8", "Answer: (6 - 4) * (4 + 8) = 24")) == 1.0
    assert verifier(path("4 4 6 8", "Answer: 4 * 6 = 24")) == 0.0
    assert verifier(path("4 4 6 8", "I give up.")) == 0.0
    assert verifier(path("4 4 6 8", "Answer: (6 - 4) * (4 + 8", StopReason.LENGTH)) == 0.0
    assert Game24((4, 6))(path("4 4 6 8", "Answer: 4 * 6 = 24")) == 1.0
    with pytest.raises(bw.ConfigError, match="numbers: the question has none; write it as `4 4 6 8`"):
        verifier(path("What?", "Answer: 4 * 6"))
