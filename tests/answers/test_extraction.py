"""Extraction from texts as models write them, with and without an answer."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.formats import AnswerFormat, Math, Text
from branchwise.answers.numbers import read_number

M, L, Y, T = Math(), Letter(), YesNo(), Text()

ROWS: list[tuple[AnswerFormat, str, str | None]] = [
    # Qwen 2.5
    (M, "Natalia sold 48/2 = 24 clips in May.\nTherefore, Natalia sold 48 + 24 = \\boxed{72} clips altogether.", "72"),
    (M, "Thus, the answer is:\n\n\\[\n\\boxed{\\frac{3}{4}}\n\\]", "\\frac{3}{4}"),
    (M, "So, the total is \\(72\\).\n\nThe answer is \\(\\boxed{72}\\).", "72"),
    (M, "Therefore, the final answer is:\n\\[ 72 \\]", "72"),
    (M, "The answer is:\n\\[\n72\n\\]", "72"),
    (M, "The final answer is:\n$$\n72\n$$", "72"),
    (M, "**Answer:** \n\n$$72$$", "72"),
    (M, "Hence, the answer is $\\boxed{\\text{B}}$", "\\text{B}"),
    # Llama 3, Minerva and GSM8K
    (M, "## Step 1: Find x\nx = 5\n\n## Step 2: Add\n\nThe final answer is: $\\boxed{72}$", "72"),
    (M, "The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac{1}{2}"),
    (M, "Final Answer: The final answer is $72$. I hope it is correct.", "72"),
    (M, "#### Step 1: Add 3 and 5\nWe get 8.\n#### Step 2: Multiply by 3", None),
    (M, "So she has 18 eggs left.\n\n#### 18", "18"),
    (M, "She makes 9 * 2 = $<<9*2=18>>18 every day at the farmer's market.\n#### 18", "18"),
    (M, "#### $1,080", "1,080"),
    (M, "#### 72 clips", "72 clips"),
    (M, "### Final Answer\n**72**", "72"),
    (M, "### Final Answer:\n$72$", "72"),
    (M, "**Final Answer**\n\n72 clips", "72 clips"),
    (M, "**Final Answer:** Natalia sold **72** clips.", None),
    (M, "Final answer: 72 clips", "72 clips"),
    (M, "**The answer is 72.**", "72"),
    (M, "*The answer is 72*", "72"),
    (M, "The answer is **72 clips**.", "72 clips"),
    (M, "The answer is `72`.", "72"),
    (M, "Answer: $18", "18"),
    (M, "Answer: \\$18.00", "18.00"),
    (M, "Answer: 18 dollars", "18 dollars"),
    (M, "Answer: She earns $18 every day.", None),
    (M, "A: The answer is 18.", "18"),
    (M, "The answer is $18 per day.", "18 per day"),
    (M, "The answer is $18 and $20.", "18 and 20"),
    (M, "The answer is 3/4 of a cup.", "3/4 of a cup"),
    (M, "The answer is 72. Let me double check that the answer is right: 48 + 24 = 72.", "72"),
    (M, "The answer is 72. This answer is correct because 48+24=72.", "72"),
    (M, "The answer is 72. I hope my answer is helpful!", "72"),
    (M, "Wait, the answer is 71? No, the answer is 72.", "72"),
    (M, "The answer is 71. Wait, the answer is not 71.", None),
    (M, "The answer is unknown.", None),
    (M, "The answer cannot be determined from 3 facts.", None),
    (M, "So x = 4, and the answer is x = 4.", "4"),
    (M, "The answer is x = 4 or x = -4.", "x = 4 or x = -4"),
    (M, "The answer is $x = 2$ or $x = 3$.", "x = 2 or x = 3"),
    (M, "The answer is x=2, y=3", "x=2, y=3"),
    (M, "The answer is (2, 3), since both fit.", "(2, 3)"),
    (M, "The answer is $(2, 3)$.", "(2, 3)"),
    (M, "The answer is [0, 1).", "[0, 1)"),
    (M, "The answer is $\\left[0, 1\\right)$.", "[0, 1)"),
    (M, "The answer is 2, 3, and 5.", "2, 3, and 5"),
    (M, "The answer is $2$, $3$, and $5$.", "2, 3, and 5"),
    (M, "The answer is approximately 3.14.", "3.14"),
    (M, "The answer is about 12 miles.", "12 miles"),
    (M, "The answer is therefore $5$.", "5"),
    (M, "The answer, therefore, is 5.", "5"),
    (M, "The answer would be 5.", "5"),
    (M, "The answer must be 5!", "5"),
    (M, "The correct answer is 5.", "5"),
    (M, "The answer to the problem is 5.", "5"),
    (M, "The answer for the second part is 5.", "5"),
    (M, "(The answer is 5)", "5"),
    (M, "The answer is 5 (five).", "5"),
    (M, "The answer is 5 - that is, five apples.", "5"),
    (M, "The answer is 5 — five apples.", "5"),
    (M, "The answer is 5; it was easy.", "5"),
    (M, "The answer is 5, i.e. five.", "5"),
    (M, "The answer is 5 as 3 + 2 = 5", "5"),
    (M, "The answer is 5 = 3 + 2", "3 + 2"),
    (M, "The answer is 3 + 2 = 5 apples, so 5.", "5 apples"),
    (M, "The answer is 1/2.", "1/2"),
    (M, "The answer is -3.", "-3"),
    (M, "The answer is 5:30 PM.", "5:30 PM"),
    (M, "The answer is 10%.", "10"),
    (M, "The answer is 2^{10} = 1024.", "1024"),
    (M, "The answer is \\(2\\sqrt{3}\\) cm.", "2\\sqrt{3}"),
    (M, "The answer is 2\\sqrt{3} cm.", "2\\sqrt{3} cm"),
    (M, "The answer is sqrt(2).", "sqrt(2)"),
    (M, "The answer is pi/2.", "pi/2"),
    (M, "The answer is $x+y$.", "x+y"),
    (M, "The answer is in the box: \\boxed{5}. Done.", "5"),
    (M, "\\boxed{x = 5}", "x = 5"),
    (M, "$\\boxed{72}$ clips. Put in \\boxed{}.", "72"),
    (M, "\\boxed{\\boxed{5}}", "5"),
    (M, "\\boxed{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}"),
    (M, "\\fbox{5}", "5"),
    (M, "\\boxed 5", "5"),
    (M, "\\boxed5$", "5"),
    (M, "\\boxed{5", None),
    (M, "72", "72"),
    (M, "$72$", "72"),
    (M, "**72**", "72"),
    (M, "72 clips.", "72 clips"),
    (M, "I have 3 apples and 4 pears.", None),
    (M, "First, 3 + 4 = 7", None),
    (M, "48 + 24", None),
    (M, "Step 1: 48/2 = 24\nStep 2: 48 + 24 = 72", None),
    (M, "The answer is as follows:\n3 apples plus 4", None),
    (M, "The answer is as follows: 3 apples plus 4", None),
    (M, "The answer is the following: 7", None),
    (M, "Is the answer 5?", None),
    (M, "the answer is", None),
    (M, "The answer is:", None),
    (M, "Answer:\n72", "72"),
    (M, "**Answer**: $72$", "72"),
    (M, "__Answer:__ 72", "72"),
    (M, "ANSWER: 72", "72"),
    (M, "Answer = 72", "72"),
    (M, 'The answer is "72".', "72"),
    (M, "The answer is $ 72 $.", "72"),
    (M, "The answer is $5,000.", "5,000"),
    (M, "The answer is $5,000 because $2,000 + $3,000 = $5,000.", "5,000"),
    (M, "The answer is 5,000,000 people", "5,000,000 people"),
    (M, "The answer is 0.", "0"),
    (M, "The answer is .5", ".5"),
    (M, "The answer is ½.", "\\frac{1}{2}"),
    (M, "The answer is $\\frac{1}{2}$ hours.", "\\frac{1}{2}"),
    (M, "The answer is \\frac{1}{2}, or 0.5.", "\\frac{1}{2}, or 0.5"),
    (M, "The answer is 12 and not 13.", "12 and not 13"),
    # letters
    (L, "The correct answer is (C) 15 minutes.", "C"),
    (L, "The answer is (B).", "B"),
    (L, "The answer is B", "B"),
    (L, "Answer: b", "B"),
    (L, "the answer is (D) because", "D"),
    (L, "The correct option is C", "C"),
    (L, "The correct choice is **C**.", "C"),
    (L, "**C**", "C"),
    (L, "B) Paris", "B"),
    (L, "B. Paris", "B"),
    (L, "(B)", "B"),
    (L, "B) Paris is the capital of France", "B"),
    (L, "The answer is: B) Paris", "B"),
    (L, "The answer is **B) Paris**.", "B"),
    (L, "The answer is **(B)**.", "B"),
    (L, "The answer is **B**, because it is.", "B"),
    (L, "**Answer: B**", "B"),
    (L, "**Answer:** (B) Paris", "B"),
    (L, "### Answer\n(B)", "B"),
    (L, "Final Answer: C", "C"),
    (L, "\\boxed{C}", "C"),
    (L, "\\boxed{\\text{C}}", "C"),
    (L, "\\boxed{\\textbf{(C)}\\ 15}", "C"),
    (L, "\\boxed{(C)}", "C"),
    (L, "\\boxed{\\text{(C) Paris}}", "C"),
    (L, "\\boxed{C. Paris}", "C"),
    (L, "The answer is $\\boxed{C}$.", "C"),
    (L, "The answer is \\(\\text{C}\\).", "C"),
    (L, "The answer is $C$.", "C"),
    (L, "Therefore, option B is correct.", "B"),
    (L, "So (B) is the correct answer.", "B"),
    (L, "B is the correct answer.", "B"),
    (L, "Option (B) is the best.", "B"),
    (L, "So the answer is option B.", "B"),
    (L, "The answer is option (b).", "B"),
    (L, "option (c)", "C"),
    (L, "So the answer is choice D.", "D"),
    (L, "We think.\n\n(B)", "B"),
    (L, "We think.\n\n**B**", "B"),
    (L, "We think.\n\nB) Paris", None),
    (L, "A) Red\nB) Blue\nC) Green", None),
    (L, "A triangle has three sides.", None),
    (L, "A triangle", None),
    (L, "I don't know", None),
    (L, "I think so", None),
    (L, "The answer is I don't know", None),
    (L, "The answer is a long story", None),
    (L, "The answer is A or B", None),
    (L, "The answer is (A) or (B)", None),
    (L, "The answer is A and C.", None),
    (L, "The answer is A, B.", None),
    (L, "The answer is A/B", None),
    (L, "The answer is none of the options.", None),
    (L, "The answer is Paris", None),
    (L, "The answer is Both", None),
    (L, "The answer is I", "I"),
    (L, "The answer is B - Paris", "B"),
    (L, "The answer is B (Paris)", "B"),
    (L, "The answer is B: Paris", "B"),
    (L, "The answer is B which says so", "B"),
    (L, "Amy sat before B.", None),
    (L, "If A is correct, then we are done", None),
    (L, "The answer is not A", None),
    (L, "The best option is (A).", "A"),
    (L, "The answer is A. The others are wrong.", "A"),
    (L, "The answer is A\nThe others are wrong.", "A"),
    (L, "Answer: (A) Amy finished last. (B) is wrong", "A"),
    (L, "The answer is the letter C", "C"),
    (L, "I", "I"),
    (L, "a", "A"),
    (L, "no idea", None),
    (L, "So the answer is (C), I think.", "C"),
    # yes/no
    (Y, "So the answer is yes.", "yes"),
    (Y, "So the answer is no.", "no"),
    (Y, "The answer is yes, because..", "yes"),
    (Y, "True", "True"),
    (Y, "No.", "No"),
    (Y, "Yes, because penguins live there.", "Yes"),
    (Y, "not sure", None),
    (Y, "yes or no?", None),
    (Y, "The answer is yes or no", None),
    (Y, "yes/no", None),
    (Y, "The answer is yes/no", None),
    (Y, "**Yes**", "Yes"),
    (Y, "Thus.\n\n**No**", "No"),
    (Y, "The answer is **Yes**.", "Yes"),
    (Y, "\\boxed{\\text{Yes}}", "Yes"),
    (Y, "\\boxed{no}", "no"),
    (Y, "The answer is no longer clear", None),
    (Y, "The answer is no one knows", None),
    (Y, "The answer is not sure", None),
    (Y, "No one knows", None),
    (Y, "Nothing", None),
    (Y, "**Answer:** No", "No"),
    (Y, "Answer: FALSE", "FALSE"),
    (Y, "Not ( True ) = False", None),
    (Y, "The answer is: Yes - it is.", "Yes"),
    (Y, 'The answer is "yes".', "yes"),
    (Y, "Yes", "Yes"),
    (Y, "Yes it is", None),
    (Y, "The answer is both yes and no", None),
    # text
    (T, "Answer: Paris", "Paris"),
    (T, "So the answer is St. Louis.", "St. Louis"),
    (T, "**Answer:** red, green", "red, green"),
    (T, 'Answer: "Paris"', "Paris"),
    (T, "Answer: 50%", "50%"),
    (T, "The answer is Paris. It is nice.", "Paris"),
    (T, "The answer is Paris. I hope this answer is correct.", "Paris"),
    (T, "Answer: ] ) }", "] ) }"),
    (T, "Answer: **valid**", "valid"),
    (T, "So the answer is invalid.", "invalid"),
    (T, "Answer:\nParis", "Paris"),
    (T, "### Answer\nParis", "Paris"),
    (T, "\\boxed{\\text{Paris}}", "\\text{Paris}"),
    (T, "Answer: $5", "$5"),
    (M, "The answer is \\text{east}.", "east"),
    (M, "The answer is 11,\\! 111,\\! 100.", "11,111,100"),
    (L, "Option C", "C"),
    (L, "The answer is A. Wait, the answer is not A.", None),
    (Y, "The answer is yes. Well, the answer is not clear.", None),
]


@pytest.mark.parametrize(("format_", "text", "answer"), ROWS)
def test_extract_finds_answers_as_models_write_them(format_: AnswerFormat, text: str, answer: str | None) -> None:
    assert format_.extract(text) == answer


# Texts that later retract or extend an answer, which their beginning does not show.
CHANGES = re.compile(r"Wait|Well|\bor\b|\band\b|, B|\nB")


@pytest.mark.parametrize(("format_", "text", "answer"), [row for row in ROWS if not CHANGES.search(row[1])])
def test_extract_cut_returns_the_final_answer_or_none(format_: AnswerFormat, text: str, answer: str | None) -> None:
    for length in range(len(text)):
        cut = format_.extract_cut(text[:length])
        assert cut is None or (answer is not None and format_.normal(cut) == format_.normal(answer)), text[:length]


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9), st.booleans())
def test_numbers_are_found_in_every_place(number: object, grouped: bool) -> None:
    written = f"{number:,}" if grouped else f"{number}"
    for text in (
        f"so \\boxed{{{written}}}.",
        f"The answer is {written}.",
        f"The answer is ${written}$ dollars.",
        f"The answer is **{written}** because 1 + 1 = 2.",
        f"**Answer:** {written}",
        f"#### {written}",
    ):
        answer = M.extract(text)
        assert answer is not None
        assert read_number(answer) == read_number(str(number)) is not None


@settings(deadline=None)
@given(st.text(alphabet="abAI3 .,:$\\{}()*#\n=-", max_size=60).map(lambda text: text.replace("a", "answer is ")))
def test_normal_form_is_idempotent_for_any_text(text: str) -> None:
    for format_ in (M, L, Y, T):
        answer = format_.extract(text)
        assert answer is None or format_.normal(answer) == format_.normal(format_.normal(answer))
        assert format_.extract_cut(text) in (answer, None)


PIECES = ["\\boxed{", "The answer is ", "answer:\n", "#", "####\n", "{", "**", "$", "(", "A "]
PIECES += [
    "\\boxed{1}, ",
    "<answer>",
    "</think>",
    "<|channel|>final",
    "Question:\n",
    '{"answer": ',
    "twenty ",
    "5! ",
    ",",
]
PIECES += [
    "²",
    "٣",
    "、",
    "。",
    "–",
    "\u200d",
    "e\u0301",
    "🎉",
    "答えは",
    "答案是A或",
    "la respuesta a ",
    "คำตอบของ",
    "1 234 ",
]


@pytest.mark.parametrize("piece", PIECES)
def test_extraction_takes_linear_time(piece: str) -> None:
    began = time.process_time()
    for format_ in (M, L, Y, T):
        format_.extract((piece * 20_000)[:20_000])
        format_.extract(f'{{"answer": {(piece * 20_000)[:20_000]}')
        format_.extract(f"\\boxed{{{(piece * 20_000)[:20_000]}}}")
        format_.extract(f"\\boxed{{1}}, {(piece * 20_000)[:20_000]} \\boxed{{2}}")
        format_.normal((piece * 20_000)[:20_000])
    assert time.process_time() - began < 2  # at most 1 s; quadratic code takes many seconds
