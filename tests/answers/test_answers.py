"""Finding answers in text, and telling which are the same."""

import asyncio
from fractions import Fraction

import pytest
from pydantic import BaseModel

from branchwise.answers.fields import vote_fields
from branchwise.answers.formats import AnswerFormat, Letter, Math, Structured, Text, YesNo
from branchwise.answers.groups import AnswerGroups
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
def test_numbers_are_read_as_people_write_them(text: str, number: int | Fraction | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [(Fraction(25, 2), "12.5"), (Fraction(1, 3), "1/3"), (Fraction(-1, 20), "-0.05"), (Fraction(72), "72")],
)
def test_numbers_are_written_as_decimals_where_they_are_short(number: Fraction, text: str) -> None:
    assert write_number(number) == text


@pytest.mark.parametrize(
    ("format_", "text", "answer"),
    [
        (Math(), "so \\boxed{72}.", "72"),
        (Math(), "first \\boxed{1}, then \\boxed{2}", "2"),
        (Math(), "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        (Math(), "\\boxed{72", None),
        (Math(), "\\boxed{}", None),
        (Math(), "The answer is 72.", "72"),
        (Math(), "The answer is $1,234.50. Done", "1,234.50"),
        (Math(), "Final answer: **18**", "18"),
        (Math(), "The answer is 5 + 3 = 8.", "8"),
        (Math(), "work\n#### 42", "42"),
        (Math(), "The answer is as follows: we add 3 and 4", None),
        (Math(), "The answer is unknown.", None),
        (Math(), "there are 12 apples", None),
        (Math(), "", None),
        (Math(), "\\boxed{5} and then \\boxed{}", "5"),
        (Math(), "\\boxed 5", "5"),
        (Math(), "The answer is 72, because 48/2 = 24.", "72"),
        (Math(), "The answer is 12, then 3*12 = 36", "12"),
        (Math(), "The answer is 5 (3 + 2 = 5)", "5"),
        (Math(), "The answer is 72 because 48/2 = 24", "72"),
        (Math(), "The answer is x = 8.", "8"),
        (Math(), "The answer is 1,234", "1,234"),
        (Math(), "The answer is 3.5 hours.", "3.5 hours"),
        (Math(), "So the answer is $18.", "18"),
        (Math(), "So the answer is $18 and no more.", "18 and no more"),
        (Math(), "The answer is **72**.", "72"),
        (Math(), "Final Answer: The final answer is $72$. I hope it is correct.", "72"),
        (Math(), "**Final answer**: 72", "72"),
        (Math(), "**Answer:** 72", "72"),
        (Math(), "**Answer**: **72**", "72"),
        (Math(), "### Answer\n72", "72"),
        (Math(), "### Final Answer:\n\n**72 clips**", "72 clips"),
        (Math(), "The answer is: 72 clips", "72 clips"),
        (Math(), "The answer to the question is 72.", "72"),
        (Math(), "Answer = 72", "72"),
        (Math(), "The answer is therefore 72.", "72"),
        (Math(), "The answer is not 5.", None),
        (Math(), "The answer is (2, 3).", "(2, 3)"),
        (Math(), "The answer is $x^2 + 1$.", "x^2 + 1"),
        (Math(), "The answer is \\(x = 4\\), as shown.", "4"),
        (Math(), "The answer is 50%.", "50"),
        (Math(), "The answer is \\frac{1}{2}.", "\\frac{1}{2}"),
        (Math(), "The answer is 3. Wait, the answer is 4.", "4"),
        (Math(), "#### 1,080", "1,080"),
        (Math(), "The answer depends on 3 things", None),
        (Letter(), "The answer is A triangle has three sides", None),
        (Letter(), "I don't know", None),
        (Letter(), "I think so", None),
        (Letter(), "The answer is I don't know", None),
        (Letter(), "The answer is option (c).", "C"),
        (Letter(), "B.", "B"),
        (Letter(), "B) Paris", "B"),
        (Letter(), "The answer is (D) because it is.", "D"),
        (Letter(), "The answer is D because it is.", "D"),
        (Letter(), "**C**", "C"),
        (Letter(), "The correct option is C", "C"),
        (Letter(), "The correct answer is (C)", "C"),
        (Letter(), "**Answer: B**", "B"),
        (Letter(), "\\boxed{\\text{(B)}}", "B"),
        (Letter(), "Answer: B: the second", "B"),
        (YesNo(), "The answer is yes or no", None),
        (YesNo(), "The answer is yes, because it is so.", "yes"),
        (YesNo(), "The answer is not sure", None),
        (YesNo(), "**Answer:** No.", "No"),
        (Text(), "Answer: St. Louis", "St. Louis"),
        (Text(), "The answer is Paris. It is nice there.", "Paris"),
        (Text(), "**Answer:** red, green", "red, green"),
        (Letter(), "So the answer is (B).", "B"),
        (Letter(), "the answer is b", "B"),
        (Letter(), "The answer is a long story", None),
        (Letter(), "\\boxed{C}", "C"),
        (Letter(), "Answer: (A) Amy finished last", "A"),
        (Letter(), "(D)", "D"),
        (Letter("AB"), "The answer is (C)", None),
        (Letter(), "I think B is better than A in every respect", None),
        (YesNo(), "So the answer is yes.", "yes"),
        (YesNo(), "The answer is True", "True"),
        (YesNo(), "The answer is **no**", "no"),
        (YesNo(), "The answer is nothing", None),
        (YesNo(), "yes", "yes"),
        (YesNo(), "No one knows whether it is so", None),
        (Text(), "Thinking...\nAnswer: Paris", "Paris"),
        (Text(), "Paris is nice", None),
    ],
)
def test_an_answer_is_extracted_where_it_is_stated_and_never_guessed(
    format_: AnswerFormat, text: str, answer: str | None
) -> None:
    assert format_.extract(text) == answer


@pytest.mark.parametrize(
    ("format_", "text", "answer"),
    [
        (Math(), "The answer is 7", None),  # 72, perhaps
        (Math(), "The answer is 7.", None),  # 7.5, perhaps
        (Math(), "The answer is 72, beca", "72"),
        (Math(), "The answer is 72\nLet us", "72"),
        (Math(), "\\boxed{72}", "72"),
        (Math(), "\\boxed{7", None),
        (Letter(), "The answer is B", None),  # "Both", perhaps
        (Letter(), "The answer is (B) bec", "B"),
        (YesNo(), "The answer is no", None),  # "not", perhaps
        (YesNo(), "The answer is no, bec", "no"),
        (Text(), "Answer: New", None),
    ],
)
def test_what_a_cut_may_have_shortened_is_no_answer(format_: AnswerFormat, text: str, answer: str | None) -> None:
    assert format_.extract_cut(text) == answer


def group(format_: AnswerFormat, *answers: str) -> list[str]:
    async def place() -> list[str]:
        groups = AnswerGroups(format_)
        return [(await groups.place(answer)).value for answer in answers]

    return asyncio.run(place())


@pytest.mark.parametrize(
    ("format_", "answers"),
    [
        (Math(), ("1/2", "0.5", "\\frac{1}{2}", ".5", "\\dfrac12")),
        (Math(), ("1,234", "1234", "1234.0", "$1,234")),
        (Math(), ("72", "72 clips", "72\\text{ clips}", "\\(72\\)")),
        (Math(), ("\\sqrt{8}", "2\\sqrt{2}")),
        (Math(), ("x+1", "1+x")),
        (Math(), ("2", "\\sqrt{4}")),
        (Letter(), ("B", "(B)", "b.")),
        (YesNo(), ("yes", "True", "YES")),
        (YesNo(("True", "False")), ("True", "yes", "TRUE.")),
        (Text(), ("New  York", "new york", "New York.")),
    ],
)
def test_equivalent_answers_form_one_group(format_: AnswerFormat, answers: tuple[str, ...]) -> None:
    assert len(set(group(format_, *answers))) == 1


@pytest.mark.parametrize(
    ("format_", "answers"),
    [
        (Math(), ("72", "27", "7.2", "-72")),
        (Math(), ("x+1", "x-1")),
        (Math(), ("1/3", "0.333")),
        (Math(), ("listen", "silent")),
        (Math(), ("(2, 3)", "(3, 2)")),
        (Math(), ("5", "-5", "x")),
        (Letter(), ("A", "B")),
        (YesNo(), ("yes", "False")),
        (YesNo(("True", "False")), ("True", "false")),
    ],
)
def test_different_answers_stay_apart(format_: AnswerFormat, answers: tuple[str, ...]) -> None:
    assert len(set(group(format_, *answers))) == len(answers)


class Person(BaseModel):
    name: str
    age: int


def test_structured_answers_are_validated_and_voted_field_by_field() -> None:
    format_ = Structured(Person)
    assert format_.extract('so {"name": "Ada", "age": 36} it is') == '{"name":"Ada","age":36}'
    assert format_.extract('{"name": "Ada"}') is None
    assert format_.extract('first {"name": "A", "age": 1} then {"name": "B", "age": 2}') == '{"name":"B","age":2}'
    assert format_.extract("{" * 5000) is None

    async def answers() -> dict[object, float]:
        groups = AnswerGroups(format_)
        placed: dict[object, float] = {}
        for name, age in [("Ada", 36), ("Ada", 35), ("Eva", 36), ("Ida", 36), ("Ada", 34)]:
            answer = await groups.place(Person(name=name, age=age).model_dump_json())
            placed[answer] = placed.get(answer, 0) + 1
        return placed

    voted = vote_fields(Person, asyncio.run(answers()))  # type: ignore[arg-type]
    assert voted is not None
    assert voted.value == Person(name="Ada", age=36)  # no branch said both most often
    assert 0.5 < voted.confidence < 1


def test_an_exponent_alone_is_no_number() -> None:
    assert all(read_number(text) is None for text in ("e0", "e", "-E5", "e.g."))
