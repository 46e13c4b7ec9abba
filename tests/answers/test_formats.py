"""Answer formats: extraction of stated answers from complete and truncated texts."""

import pytest

import branchwise as bw
from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.formats import AnswerFormat, Math, Text
from branchwise.core.path import Path, StopReason


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
def test_extract_finds_stated_answers_and_never_guesses(format_: AnswerFormat, text: str, answer: str | None) -> None:
    assert format_.extract(text) == answer


@pytest.mark.parametrize(
    ("format_", "text", "answer"),
    [
        (Math(), "The answer is 7", None),  # may become 72
        (Math(), "The answer is 7.", None),  # may become 7.5
        (Math(), "The answer is 72, beca", "72"),
        (Math(), "The answer is 72\nLet us", "72"),
        (Math(), "\\boxed{72}", "72"),
        (Math(), "\\boxed{7", None),
        (Letter(), "The answer is B", None),  # may become "Both"
        (Letter(), "The answer is (B) bec", "B"),
        (YesNo(), "The answer is no", None),  # may become "not"
        (YesNo(), "The answer is no, bec", "no"),
        (Text(), "Answer: New", None),
    ],
)
def test_extract_cut_ignores_answers_that_may_be_truncated(
    format_: AnswerFormat, text: str, answer: str | None
) -> None:
    assert format_.extract_cut(text) == answer


@pytest.mark.parametrize(
    ("text", "reason", "answer"),
    [
        ("The answer is 7", StopReason.LENGTH, None),
        ("The answer is 7", StopReason.END, "7"),
        ("The answer is 7", StopReason.STOP, "7"),
        ("The answer is 72.\n", StopReason.LENGTH, "72"),
        ("It is \\boxed{72}", StopReason.LENGTH, "72"),
        ("It is \\boxed{7", StopReason.LENGTH, None),
    ],
)
def test_path_truncated_at_max_tokens_keeps_complete_answers(text: str, reason: StopReason, answer: str | None) -> None:
    root = Path(None, 0, (0,), "", messages=bw.Messages(turns=(bw.Message(role="user", content="q"),)))
    path = Path(root, 1, (1,), text, (len(text),), stop_reason=reason)
    assert bw.task("math").extract(path) == answer
