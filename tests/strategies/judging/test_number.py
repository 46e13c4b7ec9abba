"""Numbers in the replies of judges."""

import pytest

from branchwise.strategies.judging.number import JudgeNumber


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Answer: 3", "3"),
        ("Answer: Response 3", "3"),
        ("Answer: [Response 12]", "12"),
        ("**Answer:** 3.", "3"),
        ("The answer is response #2.", "2"),
        ("Responses 1 and 4 agree.\nI select response 4.", "4"),
        ("Response 1 is long. Response 2 agrees with it.\n\nAnswer: 1", "1"),
        ("It has 3 errors in 2 sentences.\nRating: 7", "7"),
        ("Rating: 7/10", "7"),
        ("I would give it 8 out of 10.", "8"),
        ("**Rating: 7.5**", "7.5"),
        ("Score: 10 (perfect)", "10"),
        ("7", "7"),
        ("Response 2", "2"),
        (r"\boxed{5}", "5"),
        ("<think>Rating: 2? No.</think>Rating: 9", "9"),
        ("Rating：８", "8"),
    ],
)
def test_the_stated_number_is_read(text: str, number: str) -> None:
    assert JudgeNumber().extract(text) == number


@pytest.mark.parametrize("text", ["", "It is good.", "Answer: good", "There are 3 kinds of it.", "Rating: high"])
def test_other_numbers_are_no_verdict(text: str) -> None:
    assert JudgeNumber().extract(text) is None
