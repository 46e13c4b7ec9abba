"""Grading: equivalent answers, and answers that can't be graded."""

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.evaluation import Row, is_correct
from branchwise.sandbox.outcome import SandboxError
from tests.support.evaluations import evaluate_rows, numbered_rows


@pytest.mark.parametrize(
    ("answer_type", "reference", "answer", "right"),
    [
        ("number", "1234", "1,234", True),
        ("number", "72", "72 clips", True),
        ("number", "72", "27", False),
        ("number", "72", None, False),
        ("latex", "\\frac{1}{2}", "0.5", True),
        ("letter", "B", "(b)", True),
        ("letter", "B", "C", False),
        ("yes_no", "yes", "True", True),
        ("boolean", "False", "no", True),
        ("boolean", "True", "False", False),
        ("text", "New York", "new  york.", True),
    ],
)
async def test_an_equivalent_answer_is_correct(
    answer_type: str, reference: str, answer: str | None, right: bool
) -> None:
    row = Row(id="a", question="q", answer=reference, answer_type=answer_type)
    assert await is_correct(row, answer) is right


async def test_booleans_are_requested_and_returned_as_true_or_false() -> None:
    """Models asked to answer "not True is" with yes or no tend to answer yes."""
    row = Row(id="a", question="not True is", answer="False", answer_type="boolean")
    assert '"The answer is False"' in row.task.instruction
    (one,) = await evaluate_rows([row], {"greedy": bw.Greedy()}, ScriptedBackend({"": ["The answer is false."]}))
    assert (one.answer, one.votes, one.correct) == ("False", {"False": 1.0}, True)


async def test_an_error_of_the_comparison_counts_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(row: Row, answer: str | None) -> bool:
        raise RecursionError("deep")

    monkeypatch.setattr("branchwise.evaluation.grading.is_correct", fail)
    (one,) = await evaluate_rows(numbered_rows(1), {"greedy": bw.Greedy()}, ScriptedBackend({"": ["The answer is 1."]}))
    assert (one.correct, one.answer) == (False, "1")
    assert "RecursionError" in one.errors[0]


@pytest.mark.parametrize(
    "error",
    [SandboxError("there is no sandbox", "install one"), bw.MissingExtraError("sacrebleu", "metrics")],
)
async def test_missing_tools_for_grading_are_raised(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(row: Row, answer: str | None) -> bool:
        raise error

    monkeypatch.setattr("branchwise.evaluation.grading.is_correct", fail)
    with pytest.raises(type(error), match="install"):
        await evaluate_rows(numbered_rows(1), {"greedy": bw.Greedy()}, ScriptedBackend({"": ["The answer is 1."]}))
