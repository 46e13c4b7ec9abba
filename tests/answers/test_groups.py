"""Groups of equivalent answers."""

import asyncio

import pytest

from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.formats import AnswerFormat, Math, Text
from branchwise.answers.groups import AnswerGroups


def group_names(format_: AnswerFormat, *answers: str) -> list[str]:
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
def test_equivalent_answers_share_a_group(format_: AnswerFormat, answers: tuple[str, ...]) -> None:
    assert len(set(group_names(format_, *answers))) == 1


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
def test_different_answers_have_different_groups(format_: AnswerFormat, answers: tuple[str, ...]) -> None:
    assert len(set(group_names(format_, *answers))) == len(answers)
