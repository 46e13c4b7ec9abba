"""Answers in lists of boxes, JSON, exclamations, other characters and spellings."""

import pytest

from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.formats import AnswerFormat, Math, Text

M, L, Y, T = Math(), Letter(), YesNo(), Text()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("$\\boxed{3}$, $\\boxed{5}$ and $\\boxed{7}$", "3, 5, 7"),
        ("Solutions: $\\boxed{3}, \\boxed{5}, \\boxed{7}$", "3, 5, 7"),
        ("x=\\boxed{1} or x=\\boxed{-2}", "1, -2"),
        ("$x=\\boxed{1}$ or $x=\\boxed{-2}$", "1, -2"),
        ("$x=\\boxed{1}$, $y=\\boxed{2}$", "x=1, y=2"),
        ("$x_1=\\boxed{1}$ and $x_{2}=\\boxed{2}$.", "x_1=1, x_{2}=2"),
        ("either \\boxed{3}, or \\boxed{5}", "3, 5"),
        ("$\\boxed{3} \\text{ or } \\boxed{5}$", "3, 5"),
        ("\\[ \\boxed{3} \\quad \\text{and} \\quad \\boxed{5} \\]", "3, 5"),
        ("\\boxed{\\frac{1}{2}}, \\boxed{\\frac{3}{2}}, and \\boxed{2}", "\\frac{1}{2}, \\frac{3}{2}, 2"),
        ("$\\boxed{3}$ y $\\boxed{5}$", "3, 5"),
        ("$\\boxed{3}$、$\\boxed{5}$", "3, 5"),
        ("\\boxed{3} und \\boxed{5}", "3, 5"),
        ("\\boxed{5} and \\boxed{5}", "5"),
        ("We tried \\boxed{1}. Then \\boxed{3} and \\boxed{5}.", "3, 5"),
        ("I first thought \\boxed{2}, but it is \\boxed{3}.", "3"),
        ("\\boxed{2}. No: \\boxed{3}", "3"),
        ("\\boxed{2}, no, \\boxed{3}", "3"),
        ("\\boxed{2}, or rather \\boxed{3}", "3"),
        ("\\boxed{3}\n\n\\boxed{5}", "5"),
        ("a=\\boxed{2} and b=\\boxed{3}, so a+b=\\boxed{5}.", "5"),
    ],
)
def test_boxes_of_one_list_are_one_answer(text: str, answer: str) -> None:
    assert M.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("$\\boxed{3}$, $\\boxed{5}$", None),
        ("$\\boxed{3}$, $\\boxed{5}$ an", None),
        ("$\\boxed{3}$, $\\boxed{5}$ and $\\boxed{7", None),
        ("$\\boxed{3}$ and", None),
        ("$\\boxed{3}$ or $x =", None),
        ("$\\boxed{3}$ and $\\boxed{5}$. So", "3, 5"),
        ("$\\boxed{3}$. So", "3"),
    ],
)
def test_a_truncated_list_of_boxes_states_nothing(text: str, answer: str | None) -> None:
    assert M.extract_cut(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("THE ANSWER IS 42!!!", "42"),
        ("The answer is 42!", "42"),
        ("The answer is 42!?", "42"),
        ("**The answer is 42!!**", "42"),
        ("The answer is 42!! I am sure!", "42"),
        ("#### 42!", "42"),
        ("42!!!", "42"),
        ("The answer is 5!.", "5!"),
        ("The answer is 5! + 4!", "5! + 4!"),
        ("The answer is 5! = 120.", "120"),
        ("The answer is $10!$.", "10!"),
        ("\\boxed{10!}", "10!"),
    ],
)
def test_exclamations_differ_from_factorials(text: str, answer: str) -> None:
    assert M.extract(text) == answer


@pytest.mark.parametrize(
    ("format_", "text", "answer"),
    [
        (M, '{"answer": 72}', "72"),
        (M, '{"answer": "72", "why": "8 * 9"}', "72"),
        (M, "{'answer': 72, 'why': '8 * 9'}", "72"),
        (M, '```json\n{\n  "final_answer": 72\n}\n```', "72"),
        (L, '{"answer": "C"}', "C"),
        (Y, '{"answer": true}', "true"),
        (T, '{"answer": "New York, NY"}', "New York, NY"),
        (M, "```\n72\n```", "72"),
        (M, "Answer:\n```\n72\n```", "72"),
        (M, "```python\nprint(72)\n```", None),
        (M, "```\n71\n72\n```", None),
        (M, '{"total": 72}', None),
        (M, '{"answer": {"total": 72}}', None),
        (M, '<answer>{"total": 72}</answer>', None),
        (M, '{"answer": null}', None),
        (T, '{"answer": null}', None),
        (T, "**Final Answer:**\n> ) ]", "> ) ]"),
        (T, "Answer:\n- Paris", "Paris"),
    ],
)
def test_answers_in_json_and_blocks_are_found(format_: AnswerFormat, text: str, answer: str | None) -> None:
    assert format_.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer's 42.", "42"),
        ("The answer’s $42.", "42"),
        ("The answer is ７２.", "72"),
        ("The answer is 1\u202f234.", "1 234"),
        ("The answer is 3×10⁵.", "3×10^{5}"),
        ("The answer is −½.", "-\\frac{1}{2}"),
        ("The answer is\u202842", "42"),
        ("The answer is \u206642\u2069.", "42"),
        ("The answer is 🎉42🎉", "42"),
        ("Final answer: 42 ✅", "42"),
        ("The answer is:\n\n- 42", "42"),
        ("Final Answer → 42", "42"),
        ("Ans: 42", "42"),
        ("Answer (in dollars): 42", "42"),
        ("The answers are 3 and 5.", "3 and 5"),
        ("The answer is twelve.", "twelve"),
        ("The answer is 1,234 or so.", "1,234"),
        ("The answer is $5k.", "5 thousand"),
        ("The answer is -x.", "-x"),
        ("The answer is a + b.", "a + b"),
        ("The answer is n!.", "n!"),
        ("The answer is z = x + y.", "x + y"),
        ("The answer is x = e^2.", "e^2"),
        ("The answer is x = 2 o x = 3.", "x = 2 o x = 3"),
        ("The answer is x + y = 8.", "8"),
        ("The answer is 3x - 7y = 0.", "3x - 7y = 0"),
        ("The answer is f(2) = 0.", "0"),
        ("The answer is ∞.", "∞"),
        ("The answer is → 42", "42"),
        ("<p>The answer is <strong>42</strong></p>", "42"),
        ("The answer is:<br>42", "42"),
        ("⭐ Answer: 42 ⭐", "42"),
        ("If the answer is 42 then stop.", "42"),
        ("The answer is a list of numbers.", None),
        ("The answer isn't 42.", None),
        ("The answer may be 42.", None),
        ("user_id: 42", None),
        ("The answer is 2019-05-03.", "2019-05-03"),
        ("The answer is one of them.", None),
        ("The answer is two things: 5 and 6", None),
        ("One moment please.", None),
        ("The answer is between 5 and 6.", None),
        ("The total is 72.", None),
    ],
)
def test_numbers_are_found_in_any_characters(text: str, answer: str | None) -> None:
    assert M.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("b. 4", "B"),
        ("b) 4", "B"),
        ("（C）", "C"),
        ("The answer is （C）。", "C"),
        ("The answer is Ⓒ", "C"),
        ("I would pick B — a safe choice.", "B"),
        ("I'll go with C.", "C"),
        ("I choose option (D).", "D"),
        ("C：巴黎", "C"),
        ("答案：【C】", "C"),
        ("A is wrong. B is wrong. So it must be C.", "C"),
        ("It must be A triangle", None),
        ("I would pick B or C.", None),
        ("e.g. this", None),
        ("a b c", None),
        ("\\boxed{A} and \\boxed{C}", None),
    ],
)
def test_letters_are_found_as_people_write_them(text: str, letter: str | None) -> None:
    assert L.extract(text) == letter


@pytest.mark.parametrize(
    ("format_", "first", "second"),
    [
        (M, "10:30 a.m.", "10:30 AM"),
        (M, "5:30PM", "5:30 p.m."),
        (M, "7²", "7^{2}"),
        (M, "$2$ o $3$", "2, 3"),
        (M, "x = 2 oder x = 3", "x = 2, x = 3"),
        (M, "2或3", "2, 3"),
        (M, "2 y 3", "2, 3"),
        (M, "2 и 3", "2, 3"),
        (Y, "Y", "yes"),
        (Y, "sí", "yes"),
        (Y, "T", "yes"),
        (T, "*Hamlet*", "Hamlet"),
        (T, "10:30 a.m.", "10:30 am"),
        (T, "U.S.", "US"),
        (T, "the U.S.A.", "USA"),
        (T, "The Eiffel Tower", "Eiffel Tower"),
        (T, "caf\u00e9", "cafe\u0301"),
        (T, "\u200bParis", "Paris"),
        (T, "Ｐａｒｉｓ", "paris"),
        (T, "Straße", "STRASSE"),
        (T, "“New York”", "New York"),
        (T, "New York!", "New York"),
        (T, "1990–1995", "1990-1995"),
    ],
)
def test_spellings_of_one_answer_have_one_normal_form(format_: AnswerFormat, first: str, second: str) -> None:
    assert format_.normal(first) == format_.normal(second)


@pytest.mark.parametrize(
    ("format_", "first", "second"),
    [
        (M, "10:30 a.m.", "10:30 p.m."),
        (M, "5k", "5000"),
        (M, "x²", "x2"),
        (M, "2x y", "2x, y"),
        (M, "5y+20z", "5, +20z"),
        (M, "3 y -2", "3, -2"),
        (T, "The", ""),
        (T, "1.5", "15"),
        (T, "Theodore", "odore"),
        (T, "①", "②"),
        (T, "x²", "x2"),
        (T, "🎉", "🎈"),
        (T, "n!", "n"),
    ],
)
def test_different_answers_have_different_normal_forms(format_: AnswerFormat, first: str, second: str) -> None:
    assert format_.normal(first) != format_.normal(second)


@pytest.mark.parametrize(
    ("text", "shown"), [("Answer: ½ cup of １２ x²", "½ cup of １２ x²"), ("答案：「北京」。", "北京")]
)
def test_text_is_shown_as_it_was_written(text: str, shown: str) -> None:
    answer = T.extract(text)
    assert answer is not None
    assert T.display(answer) == shown
