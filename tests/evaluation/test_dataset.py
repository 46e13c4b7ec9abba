"""Data sets: files, invalid rows and missing packages."""

import json
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.evaluation import read_rows

GOOD = '{"id": "a", "question": "q", "answer": "1"}'
TYPED = '"answer_type": "yes_no"}'
ROWS = Path(__file__).parents[1] / "data" / "gsm8k.jsonl"


def test_files_are_found_by_path_or_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows(str(ROWS))
    assert [row.answer_type for row in rows] == ["number"] * len(rows)
    assert len(read_rows(str(ROWS), limit=2)) == 2
    monkeypatch.delenv("BRANCHWISE_DATA", raising=False)
    with pytest.raises(bw.ConfigError, match="data: there is no file gsm8k; give a path, or set BRANCHWISE_DATA"):
        read_rows("gsm8k")
    monkeypatch.setenv("BRANCHWISE_DATA", str(ROWS.parent))
    assert read_rows("gsm8k") == read_rows("gsm8k.jsonl") == rows
    for name in ("~nobody/gsm8k.jsonl", "g" * 300, "g" * 5_000, "\0"):  # unknown user, too long, invalid
        with pytest.raises(bw.ConfigError, match="data: there is no file"):
            read_rows(name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1, JSON"),
        (
            '{"id": "a", "answer": "1"}',
            "question_column: can't be detected in .*rows.jsonl; name it: .* are id, answer",
        ),
        (f'{GOOD}\n{{"id": "b", "answer": "1"}}', "line 2, question: is missing"),
        (f'{GOOD}\n{{"id": "b", "question": "q"}}', "line 2, answer: is missing"),
        (f'{GOOD}\n{{"id": "b", "question": " ", "answer": "1"}}', "line 2, question: is empty"),
        ('{"id": "a", "question": ["q"], "answer": "1"}', "line 1, question: got list, must be a text"),
        ('{"id": "a", "question": "q", "answer": {"text": "1"}}', "line 1, answer: got dict, must be a text, a number"),
        ('{"id": "a", "question": "q", "answer": null}', "line 1, answer: is empty"),
        ('{"id": "a", "question": "\\ud800", "answer": "1"}', "line 1, question: has an unpaired surrogate"),
        ('{"id": "a", "question": "q", "answer": "1", "answer_type": "numbr"}', "'numbr' can't be scored; use one of"),
        ('{"id": "a", "question": "q", "answer": "1", "answer_type": "tests"}', "answer_type: 'tests'"),
        ('{"id": "a", "question": "q", "answer": " "}', "line 1, answer: is empty; give the reference answer"),
        (f"{GOOD[:-1]}, {TYPED}", "line 1, answer: '1' is not yes or no"),
        ('{"id": "a", "question": "q", "answer": "many", "answer_type": "number"}', "'many' is not a number; fix it"),
        ('{"id": "a", "question": "q", "answer": "B. Paris", "answer_type": "letter"}', "'B. Paris' is not a letter"),
        ('{"id": "a", "question": "q", "answer": "maybe", "answer_type": "yes_no"}', "'maybe' is not yes or no"),
        ('{"id": "a", "question": "q", "answer": "5", "answer_type": "letter"}', "'5' is not a letter"),
        ("[1]", "rows.jsonl, row 0, JSON: got int, must be an object"),
        ('"q"', "line 1, JSON: got str, must be an object"),
        (f"{GOOD}\n\n{{}}", "line 3, answer: is missing"),
        ("", "holds no rows"),
        (f"{GOOD}\n{GOOD}", "line 2, id: 'a' is also that of line 1"),
        ("\udcff", "line 1: is not UTF-8; give JSON Lines"),
        (f"{GOOD}\n\udcff", "line 2: is not UTF-8"),
    ],
)
def test_an_invalid_row_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(bw.ConfigError, match=message) as caught:
        read_rows(str(tmp_path / "rows.jsonl"))
    assert "\n" not in str(caught.value)


def test_rows_after_the_limit_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{{\n")
    assert [row.id for row in read_rows(str(tmp_path / "rows.jsonl"), limit=1)] == ["a"]


def test_missing_metrics_are_reported_when_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "a", "question": "q", "answer": "Paris", "answer_type": "reference"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert len(read_rows(str(tmp_path / "rows.jsonl"))) == 1
    monkeypatch.setattr("branchwise.evaluation.metrics.find_spec", lambda name: None)
    with pytest.raises(bw.MissingExtraError, match=r"branchwise\[metrics\]"):
        read_rows(str(tmp_path / "rows.jsonl"))
