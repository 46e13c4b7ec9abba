"""Segmentation of paths into reasoning steps."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.core.path import Path
from branchwise.core.question import as_messages
from branchwise.prompts.steps import step_ends

TOKENS = r" ?\w+| ?[^\w\s]|\n+|\s"


def path_of(text: str, pattern: str = TOKENS) -> Path:
    """Return a path whose tokens are words and marks with the space before them, and sequences of newlines."""
    root = Path(None, 0, (0,), "", messages=as_messages("q"))
    ends = tuple(match.end() for match in re.finditer(pattern, text))
    assert not ends or ends[-1] == len(text)
    return Path(root, 1, tuple(range(len(ends))), text, ends)


def steps_of(text: str, pattern: str = TOKENS) -> list[str]:
    path = path_of(text, pattern)
    cuts = [0, *step_ends(path)]
    return [path.answer_text[len(path.cut(a).answer_text) : len(path.cut(b).answer_text)] for a, b in pairwise(cuts)]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("One. Two. Three.", ["One.", " Two.", " Three."]),
        ("One\nTwo\nThree", ["One\n", "Two\n", "Three"]),
        ("Is it? Yes! Good.", ["Is it?", " Yes!", " Good."]),
        ("It costs 3.50 dollars. Done.", ["It costs 3.50 dollars.", " Done."]),
        ("1. First\n2. Second\n", ["1. First\n", "2. Second\n"]),
        ("One.\n\nTwo. Three", ["One.\n\n", "Two.", " Three"]),
        ("Mr. Smith left. Fine.", ["Mr. Smith left.", " Fine."]),
        ("We use \\( a. b \\) here. End.", ["We use \\( a. b \\) here.", " End."]),
        ("\\[\nx = 1\n\\]\nSo.", ["\\[\nx = 1\n\\]\n", "So."]),
        ("$$a\nb$$ then. End", ["$$a\nb$$ then.", " End"]),
        ("```\na = 1\nb = 2\n```\nDone.", ["```\na = 1\nb = 2\n```\n", "Done."]),
        ("\\frac{1. 2}{3} is it. Yes.", ["\\frac{1. 2}{3} is it.", " Yes."]),
        ("He pays $5. She pays $6. Sum.", ["He pays $5.", " She pays $6.", " Sum."]),
        ("   \n\n  One. Two", ["   \n\n  One.", " Two"]),
        ("no end at all", ["no end at all"]),
        ("", []),
        ("The U.S. economy grew 3.5 or 1,234. Yes.", ["The U.S. economy grew 3.5 or 1,234.", " Yes."]),
        ("Use it, e.g. here. See Fig. 3, No. 5. End.", ["Use it, e.g. here.", " See Fig. 3, No. 5.", " End."]),
        ("Is it 3? No. It is 4.", ["Is it 3?", " No.", " It is 4."]),
        ("Add 1 + ... + n. Wait... So 5! ways.", ["Add 1 + ... + n.", " Wait...", " So 5! ways."]),
        ("(a) First. (b) Second.", ["(a) First.", " (b) Second."]),
        ('He said "no." Then left.', ['He said "no."', " Then left."]),
        ("At 9 a.m. he left. It was 5 p.m. Then he ate.", ["At 9 a.m. he left.", " It was 5 p.m.", " Then he ate."]),
        ("At 9 A.M. he left, i.e. late. End.", ["At 9 A.M. he left, i.e. late.", " End."]),
        ("Mr. X has cats vs. dogs. E.g. approx. 5. End.", ["Mr. X has cats vs. dogs.", " E.g. approx. 5.", " End."]),
        ("It weighs 5 lbs. 3 oz. in all, or 9 lbs. End.", ["It weighs 5 lbs. 3 oz. in all, or 9 lbs.", " End."]),
        ("Add:\n  a. One. Two.\n  b. Three", ["Add:\n", "  a. One.", " Two.\n", "  b. Three"]),
    ],
)
def test_steps_end_after_lines_and_sentences(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("So $5$ dollars. End.", ["So $5$ dollars.", " End."]),
        ("Thus $3x+2=11$. End.", ["Thus $3x+2=11$.", " End."]),
        ("So $x. y$ holds. End.", ["So $x. y$ holds.", " End."]),
        ("So $ x. y $ holds. End.", ["So $ x. y $ holds.", " End."]),
        ("It costs $5 and she has $6. Then $x. 5$.", ["It costs $5 and she has $6.", " Then $x. 5$."]),
        ("It costs $5, so $x. 5$ it is. End.", ["It costs $5, so $x. 5$ it is.", " End."]),
        ("She has 5$ and 6$. End.", ["She has 5$ and 6$.", " End."]),
        ("So $3 + $4 = $7. It is \\$7. End.", ["So $3 + $4 = $7.", " It is \\$7.", " End."]),
        ("It is $5.\nHe has $3. End.", ["It is $5.\n", "He has $3.", " End."]),
        (
            "It costs $5. She has $6. Then $5$ dollars. And $3x+2=11$. So done.",
            ["It costs $5.", " She has $6.", " Then $5$ dollars.", " And $3x+2=11$.", " So done."],
        ),
        ("Let $x = 1. y$ be. End.", ["Let $x = 1. y$ be.", " End."]),
        ("It costs $5 and $6 more. Then go.", ["It costs $5 and $6 more.", " Then go."]),
        ("It costs $2.50. That is $1,234.00. End.", ["It costs $2.50.", " That is $1,234.00.", " End."]),
        ("3 * $5 = $15. So $15 - $5 = $10. End.", ["3 * $5 = $15.", " So $15 - $5 = $10.", " End."]),
        ("It is $5-$10. She pays $5/hour. End.", ["It is $5-$10.", " She pays $5/hour.", " End."]),
        ("It costs $5 (i.e. $2.5 each). End.", ["It costs $5 (i.e. $2.5 each).", " End."]),
        ("It costs $20. If $p. q$ is it. End.", ["It costs $20.", " If $p. q$ is it.", " End."]),
        ("It costs $5. So ($x. y$) is it. End.", ["It costs $5.", " So ($x. y$) is it.", " End."]),
        ("It costs **$5**. So **$x. y$**. End.", ["It costs **$5**.", " So **$x. y$**.", " End."]),
        ("He pays \\$5. So $x. y$ is. End.", ["He pays \\$5.", " So $x. y$ is.", " End."]),
        ("So $x$, $y. a$, and $z$. End.", ["So $x$, $y. a$, and $z$.", " End."]),
        ("So $$x. y$$ is. It costs US$5. End.", ["So $$x. y$$ is.", " It costs US$5.", " End."]),
    ],
)
def test_paired_dollar_signs_are_mathematics_and_single_ones_money(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (
            "\\begin{align}\na &= 1\n\\end{align}\nOne. Two.",
            ["\\begin{align}\na &= 1\n\\end{align}\n", "One.", " Two."],
        ),
        ("S = {1, 2. So\nit.\n\nOne. Two.", ["S = {1, 2. So\nit.\n\n", "One.", " Two."]),
        ("S = \\(1. So\nit.\n\nOne. Two.", ["S = \\(1. So\nit.\n\n", "One.", " Two."]),
        ("$$ x. So\nit.\n\nOne. Two.", ["$$ x. So\nit.\n\n", "One.", " Two."]),
        ("It is } so. One. Two.", ["It is } so.", " One.", " Two."]),
        ("a \\\\[2pt] b. End.", ["a \\\\[2pt] b.", " End."]),
        ("```python\nx = {1\n\ny. Open\nStill", ["```python\nx = {1\n\ny. Open\nStill"]),
        ("```\nx = {1\n```\nOne. Two.", ["```\nx = {1\n```\n", "One.", " Two."]),
        ("So.\n  ```\n  x. Y\n  ```\nOne. Two.", ["So.\n", "  ```\n  x. Y\n  ```\n", "One.", " Two."]),
        ("1. ```py\n   x. Y\n   ```\nOne. Two.", ["1. ```py\n   x. Y\n   ```\n", "One.", " Two."]),
        ("- Run:\n\n\t```\n\tx. Y\n\n\t```\n\nOne.", ["- Run:\n\n", "\t```\n\tx. Y\n\n\t```\n\n", "One."]),
        ("Use `x = 1`, then ```y = 2```. One. Two.", ["Use `x = 1`, then ```y = 2```.", " One.", " Two."]),
        ("```y = 2``` is it.\nOne. Two.", ["```y = 2``` is it.\n", "One.", " Two."]),
        ("Code: ```\nOne. Two.", ["Code: ```\n", "One.", " Two."]),  # not a fence, because it does not start the line
        ("Call `a. b` here. End.", ["Call `a. b` here.", " End."]),
        ("A lone ` is none. End.", ["A lone ` is none.", " End."]),
    ],
)
def test_unclosed_groups_end_with_their_paragraph(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("**Step 1.** Add. **Step 2.** Halve.", ["**Step 1.** Add.", " **Step 2.** Halve."]),
        ("### Step 1. Add\n\nWe add.\n\n### Step 2.\nEnd.", ["### Step 1. Add\n\nWe add.\n\n", "### Step 2.\nEnd."]),
        ("**Step 1:**\nAdd.\n**Step 2:**\n\nEnd.", ["**Step 1:**\nAdd.\n", "**Step 2:**\n\nEnd."]),
        ("### Step 1: Find the cost\nAdd. End.", ["### Step 1: Find the cost\nAdd.", " End."]),
        ("So.\n  ### Step 1. Add it. Now\nWe do. End.", ["So.\n", "  ### Step 1. Add it. Now\nWe do.", " End."]),
        ("Step 1. We add. Step 2. We halve.", ["Step 1. We add.", " Step 2. We halve."]),
        ("Step 1:\nWe add.\nStep 2:\nEnd.", ["Step 1:\nWe add.\n", "Step 2:\nEnd."]),
        ("Step 1: 3 + 4 = 7\nStep 2: 7 * 2 = 14", ["Step 1: 3 + 4 = 7\n", "Step 2: 7 * 2 = 14"]),
        ("1.\nAdd.\n2.\nHalve.", ["1.\nAdd.\n", "2.\nHalve."]),
        ("**Add the costs**\nIt is 3.\nEnd", ["**Add the costs**\nIt is 3.\n", "End"]),
        ("**It is 3.**\nEnd", ["**It is 3.**\n", "End"]),
        ("It is 3.\n\n---\n\n**Final Answer:**\n72", ["It is 3.\n\n", "---\n\n**Final Answer:**\n72"]),
        ("So.\n## Step 2", ["So.\n", "## Step 2"]),
    ],
)
def test_heading_belongs_to_the_step_that_follows(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


PIECES = st.sampled_from(
    [
        *(
            "3",
            "1,234",
            ".",
            "5.5",
            " ",
            "\n",
            "\n\n",
            "$",
            "$$",
            "{",
            "}",
            "\\(",
            "\\)",
            "\\[",
            "```",
            "`",
            "a",
            "Two",
        ),
        *("# ", "**", "Step 1.", "!", "?", "\\begin{x}", "\\end{x}", "\\", "..."),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_steps_cover_the_path_and_do_not_split_numbers(text: str) -> None:
    path = path_of(text, r"\d|\w+|\W")
    ends = step_ends(path)
    assert list(ends) == sorted(set(ends))
    assert ends[-1:] == ((path.generated,) if text else ())
    for end in ends[:-1]:
        before, after = text[: path.token_ends()[end - 1]], text[path.token_ends()[end - 1] :]
        assert not (re.search(r"\d[.,]?\Z", before) and re.match(r"[.,]?\d", after))
        assert before.strip()
        assert after.strip()


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "One. Two $5. Then \\(x\\) {a}\n",
            "It is $5. So $x$\n",
            "$\n",
            "\n ",
            " ",
            ". ",
            "{",
            "$",
            "`",
            "``",
            "1.\n",
        ),
        *("- ", "\\begin{", ".)", "# ", "**a"),
    ],
)
def test_segmentation_takes_linear_time(piece: str) -> None:
    path = path_of((piece * 20_000)[:20_000])
    began = time.process_time()
    step_ends(path)
    assert time.process_time() - began < 0.25  # about 10 ms; quadratic code takes seconds


def test_steps_concatenate_to_the_whole_path() -> None:
    text = "First, 2 + 2 = 4.\n\nThen \\(4 \\times 3 = 12\\). So the answer is \\boxed{12}."
    assert "".join(steps_of(text)) == text


def test_token_across_a_step_boundary_is_not_cut() -> None:
    assert steps_of("a.\nb c.\nd", r"a\.\nb|.|\n") == ["a.\nb c.\n", "d"]


def test_token_that_starts_with_a_newline_goes_to_the_next_step() -> None:
    assert steps_of("One\nTwo", r"\s*\w+") == ["One", "\nTwo"]


def test_token_of_a_period_and_newlines_ends_the_step() -> None:
    assert steps_of("a.\n\nb", r"\.\n\n|.") == ["a.\n\n", "b"]


def test_assistant_prefix_is_not_a_step() -> None:
    messages = as_messages("q").model_copy(update={"prefix": "Sure. Let me see. "})
    root = Path(None, 0, (0,), "", messages=messages)
    path = Path(root, 1, (1, 2), "One. Two.", (4, 9))
    assert step_ends(path) == (1, 2)


def test_steps_continue_across_segments() -> None:
    root = Path(None, 0, (0,), "", messages=as_messages("q"))
    first = Path(root, 1, (1, 2), "One. Tw", (4, 7))
    second = Path(first, 2, (3, 4), "o. Three.", (2, 9))
    assert step_ends(second) == (1, 3, 4)
