"""Where reasoning steps end."""

import re
from itertools import pairwise

import pytest

from branchwise.messages import as_messages
from branchwise.path import Path
from branchwise.prompts.steps import step_ends

TOKENS = r" ?\w+| ?[^\w\s]|\n+|\s"


def path_of(text: str, pattern: str = TOKENS) -> Path:
    """A path whose tokens are words and marks with the space before them, and runs of newlines."""
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
    ],
)
def test_steps_end_after_lines_and_sentences_only(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


def test_steps_are_the_whole_path_in_order() -> None:
    text = "First, 2 + 2 = 4.\n\nThen \\(4 \\times 3 = 12\\). So the answer is \\boxed{12}."
    assert "".join(steps_of(text)) == text


def test_a_token_that_runs_on_past_the_end_is_not_cut() -> None:
    assert steps_of("a.\nb c.\nd", r"a\.\nb|.|\n") == ["a.\nb c.\n", "d"]


def test_a_token_that_opens_with_the_newline_is_left_to_the_next_step() -> None:
    assert steps_of("One\nTwo", r"\s*\w+") == ["One", "\nTwo"]


def test_a_token_of_a_full_stop_and_newlines_ends_the_step() -> None:
    assert steps_of("a.\n\nb", r"\.\n\n|.") == ["a.\n\n", "b"]


def test_prefix_text_is_no_step_of_the_path() -> None:
    messages = as_messages("q").model_copy(update={"prefix": "Sure. Let me see. "})
    root = Path(None, 0, (0,), "", messages=messages)
    path = Path(root, 1, (1, 2), "One. Two.", (4, 9))
    assert step_ends(path) == (1, 2)


def test_steps_run_over_segments() -> None:
    root = Path(None, 0, (0,), "", messages=as_messages("q"))
    first = Path(root, 1, (1, 2), "One. Tw", (4, 7))
    second = Path(first, 2, (3, 4), "o. Three.", (2, 9))
    assert step_ends(second) == (1, 3, 4)
