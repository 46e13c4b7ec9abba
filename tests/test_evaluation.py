"""Reading questions, scoring answers, comparing strategies."""

from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.scripted import ScriptedBackend
from branchwise.evaluation.dataset import Row, read_rows
from branchwise.evaluation.run import Scored, evaluate, is_correct

ROWS = Path(__file__).parent / "data" / "gsm8k.jsonl"


def test_rows_are_read_by_path_or_by_name_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows(str(ROWS))
    assert [row.answer_type for row in rows] == ["number"] * len(rows)
    assert len(read_rows(str(ROWS), limit=2)) == 2
    monkeypatch.setenv("BRANCHWISE_DATA", str(ROWS.parent))
    assert read_rows("gsm8k") == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1, JSON"),
        ('{"id": "a", "answer": "1"}', "line 1, question: Field required"),
        ('{"id": "a", "question": "q", "answer": 1}', "line 1, answer"),
        ('{"id": "a", "question": "q", "answer": "1", "answer_type": "tests"}', "answer_type: 'tests'"),
        ("", "holds no rows"),
    ],
)
def test_a_bad_row_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(bw.ConfigError, match=message):
        read_rows(str(tmp_path / "rows.jsonl"))


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
        ("text", "New York", "new  york.", True),
    ],
)
async def test_an_answer_is_right_where_it_means_the_reference(
    answer_type: str, reference: str, answer: str | None, right: bool
) -> None:
    row = Row(id="a", question="q", answer=reference, answer_type=answer_type)
    assert await is_correct(row, answer) is right


async def test_strategies_are_compared_on_the_same_questions() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer=str(i)) for i in range(3)]
    backend = ScriptedBackend({"": ["First. Then. The answer is 1."], "First.": [" Then. The answer is 1."]})
    seen: list[tuple[str, str]] = []

    def on_scored(strategy: str, scored: Scored) -> None:
        seen.append((strategy, scored.row.id))

    strategies = {"sc": bw.SelfConsistency(4), "pc": bw.PathConsistency(4)}
    first, second = await evaluate(
        rows, strategies, backend, seed=0, concurrency=2, on_scored=on_scored, stop=bw.Stop()
    )
    assert (first.strategy, second.strategy) == ("sc", "pc")
    assert first.accuracy == second.accuracy == pytest.approx(1 / 3)
    assert first.usage.sampled == sum(item.result.usage.sampled for item in first.scored)
    # What came before is not held against nor for the second: each pays for its own prompts.
    assert first.usage.prefilled == second.usage.prefilled > 0
    assert sorted(seen) == sorted((name, str(i)) for name in strategies for i in range(3))


async def test_a_stopped_evaluation_keeps_what_was_scored() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer="1") for i in range(5)]
    stop, seen = bw.Stop(), []

    def on_scored(strategy: str, scored: Scored) -> None:
        seen.append(scored)
        if len(seen) == 2:
            stop.set()

    backend = ScriptedBackend({"": ["The answer is 1."]})
    summaries = await evaluate(
        rows, {"sc": bw.SelfConsistency(2)}, backend, seed=0, concurrency=1, on_scored=on_scored, stop=stop
    )
    assert len(summaries[0].scored) == 2
