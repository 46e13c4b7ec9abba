"""Columns of data sets: names, answer types, worked solutions and choices, in files as in hub datasets."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.evaluation import Columns, Row, read_rows

GSM = "She sold 6 * 7 = <<6*7=42>>42 clips.\nSo 42.\n#### 42"
MATH = "It is $x \\cdot x$, so $\\boxed{x^{2}}$."


def lines(folder: Path, rows: Sequence[Mapping[str, object]]) -> str:
    """Write JSON Lines and return the path."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "rows.jsonl")


def table(folder: Path, rows: Sequence[Mapping[str, object]]) -> str:
    """Write a CSV file as pandas does and return the path."""
    with (folder / "rows.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(folder / "rows.csv")


def hub(folder: Path, rows: Sequence[Mapping[str, object]], monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a dataset in the hub's format and return its source."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    (folder / "rows").mkdir()
    (folder / "rows" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"hf:{folder / 'rows'}"


def shown(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    return [(row.id, row.question, row.answer, row.answer_type) for row in rows]


CHOICE = "Q?\nA. one\nB. two\nC. three"
OPTIONS = ["one", "two", "three"]
BY_LETTER = dict(zip("ABC", OPTIONS, strict=True))
LABELLED = [{"label": key, "text": text} for key, text in BY_LETTER.items()]
CASES: list[tuple[list[dict[str, object]], list[tuple[str, str, str]]]] = [
    ([{"question": "q", "answer": GSM}], [("q", "42", "number")]),
    ([{"problem": "q", "solution": MATH}], [("q", "x^{2}", "latex")]),
    ([{"problem": "q", "solution": MATH, "expected_answer": "7"}], [("q", "7", "number")]),
    ([{"prompt": "q", "target": "Paris"}], [("q", "Paris", "text")]),
    ([{"Question": "q", "Correct Answer": 7}], [("q", "7", "number")]),
    ([{"question": "q", "answer": [7]}], [("q", "7", "number")]),
    ([{"question": "q", "answer": True}], [("q", "yes", "yes_no")]),
    ([{"question": "q", "answer": "False"}], [("q", "False", "boolean")]),
    ([{"question": CHOICE, "answer": "B"}], [(CHOICE, "B", "letter")]),
    ([{"question": "The next of A, B?", "answer": "C"}], [("The next of A, B?", "C", "text")]),
    ([{"question": "Q?", "choices": OPTIONS, "answer": 2}], [(CHOICE, "C", "letter")]),
    ([{"question": "Q?", "choices": OPTIONS, "answer": "two"}], [(CHOICE, "B", "letter")]),
    ([{"question": "Q?", "options": OPTIONS, "answer": "B"}], [(CHOICE, "B", "letter")]),
    ([{"question": "Q?", "options": OPTIONS, "answer": "B. two"}], [(CHOICE, "B", "letter")]),
    ([{"question": "Q?", "options": BY_LETTER, "answer": "three"}], [(CHOICE, "C", "letter")]),
    ([{"question": "Q?", **BY_LETTER, "answer": "B"}], [(CHOICE, "B", "letter")]),
    (  # 3 of 3: they count from 1
        [{"question": "Q?", **BY_LETTER, "answer": each} for each in (3, 1)],
        [(CHOICE, "C", "letter"), (CHOICE, "A", "letter")],
    ),
    (
        [{"question": "Q?", "choices": {"label": ["1", "2", "3"], "text": OPTIONS}, "answerKey": "2"}],
        [(CHOICE, "B", "letter")],
    ),
    ([{"question": {"stem": "Q?", "choices": LABELLED}, "answerKey": "C"}], [(CHOICE, "C", "letter")]),
]


@pytest.mark.parametrize(("rows", "expected"), CASES)
def test_files_are_read_as_hub_datasets_are(
    rows: list[dict[str, object]],
    expected: list[tuple[str, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = [(f"rows-{index}", *row) for index, row in enumerate(expected)]
    assert shown(read_rows(lines(tmp_path, rows))) == named
    assert shown(read_rows(hub(tmp_path, rows, monkeypatch))) == named


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"question": "q", "answer": GSM}], [("q", "42", "number")]),
        ([{"Question": "q", "Answer": "7", "id": ""}], [("q", "7", "number")]),
        ([{"": 0, "question": "q", "answer": True}], [("q", "True", "boolean")]),  # pandas writes an index
        ([{"question": "Q?", "choices": OPTIONS, "answer": 2}], [(CHOICE, "C", "letter")]),
        ([{"question": "Q?", "choices": json.dumps(OPTIONS), "answer": "0"}], [(CHOICE, "A", "letter")]),
        ([{"question": "Q?", "A": "one", "B": "two", "C": "three", "D": "", "answer": "B"}], [(CHOICE, "B", "letter")]),
    ],
)
def test_tables_hold_lists_and_numbers_as_text(
    rows: list[dict[str, object]], expected: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    assert [row[1:] for row in shown(read_rows(table(tmp_path, rows)))] == expected


def test_columns_of_files_can_be_named(tmp_path: Path) -> None:
    rows = [{"question": "no", "answer": "no", "text": "6 * 7?", "gold": "42"}]
    for write in (lines, table):
        assert shown(read_rows(write(tmp_path, rows), columns=Columns("text", "gold"))) == [
            ("rows-0", "6 * 7?", "42", "number")
        ]
        with pytest.raises(
            bw.ConfigError, match=r"answer_column: is 'golden'; use one of question, answer, text, gold"
        ):
            read_rows(write(tmp_path, rows), columns=Columns("text", "golden"))
        with pytest.raises(bw.ConfigError, match=r"line [12], gold: '42' is not yes or no"):
            read_rows(write(tmp_path, rows), columns=Columns("text", "gold", "yes_no"))


def test_an_answer_type_for_all_rows_replaces_theirs(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "7", "answer_type": "text"}, {"question": "q", "answer": "8"}]
    source = lines(tmp_path, rows)
    assert [row.answer_type for row in read_rows(source)] == ["text", "number"]
    assert [row.answer_type for row in read_rows(source, columns=Columns(answer_type="latex"))] == ["latex"] * 2


def test_one_answer_that_is_no_number_among_many_is_reported(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": str(number)} for number in range(20)]
    with pytest.raises(bw.ConfigError, match=r"line 21, answer: 'none' is not a number; fix it, or set another"):
        read_rows(lines(tmp_path, [*rows, {"question": "q", "answer": "none"}]))
    mixed = [{"question": "q", "answer": each} for each in ("7", "none", "8")]
    assert {row.answer_type for row in read_rows(lines(tmp_path, mixed))} == {"text"}


def test_detection_does_not_depend_on_the_rows_asked(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "7"}, *({"question": "q", "answer": "Paris"} for _ in range(3))]
    source = lines(tmp_path, rows)
    whole = shown(read_rows(source))
    assert shown(read_rows(source, limit=1)) == whole[:1]
    assert shown(read_rows(source, skip=2)) == whole[2:]


def test_a_row_without_a_type_after_typed_ones_is_a_number(tmp_path: Path) -> None:
    typed: list[dict[str, object]] = [{"question": "q", "answer": "yes", "answer_type": "yes_no"}] * 100
    assert read_rows(lines(tmp_path, [*typed, {"question": "q", "answer": "7"}]))[-1].answer_type == "number"


def test_rows_that_state_everything_stay_as_they_are(tmp_path: Path) -> None:
    """Digests are those of version 0.1.0, so that its runs resume."""
    rows: list[dict[str, object]] = [
        {"id": "a", "question": "q", "answer": " 72"},
        {"id": "b", "question": "q", "answer": "no #### tags\n", "answer_type": "text"},
        {"id": "c", "question": "Q?\n(A) x\n(B) y", "answer": "(b)", "answer_type": "letter", "choices": ["x", "y"]},
        {"id": "d", "question": "q", "answer": "yes", "answer_type": "yes_no", "choices": ["yes", "no"]},
        {"id": "e", "question": "q", "answer": "\\boxed{7}", "answer_type": "latex", "solution": "Well."},
    ]
    read = read_rows(lines(tmp_path, rows))
    assert [row.model_dump() for row in read] == [
        Row(**{"answer_type": "number", **row}).model_dump()  # type: ignore[arg-type]
        for row in rows
    ]
    assert [row.digest for row in read] == [
        "24f7e8cc545b",
        "0d570f9765f3",
        "ca9688c53f4e",
        "a4eaf7f30045",
        "e4cfbe7338db",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q?", "choices": ["one", "two"], "answer": 5}, "line 1, answer: '5' is not a letter"),
        ({"question": "Q?", "choices": ["one", "two"], "answer": ""}, "line 1, answer: is empty"),
        ({"question": "Q?", "choices": "['one' 'two']", "answer": 1}, "line 1, choices: .* is not a list of options"),
        ({"question": "Q?", "answer": ["a", "b"]}, "line 1, answer: got list, must be a text"),
        ({"question": "q", "answer": "7", "answer_type": "tests"}, "line 1, answer_type: 'tests' needs tests"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(bw.ConfigError, match=message) as caught:
        read_rows(lines(tmp_path, [row]))
    assert "\n" not in str(caught.value)
