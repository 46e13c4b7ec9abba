"""Hugging Face datasets, read with the `datasets` package from local folders."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import branchwise as bw
from branchwise.cli.main import app
from branchwise.evaluation.columns import Columns
from branchwise.evaluation.dataset import read_rows, source_name
from tests.support.commands import assert_rejected, run

GSM = [
    {"question": "How many are 6 times 7?", "answer": "6 * 7 = <<6*7=42>>42\n#### 42"},
    {"question": "And 7 times 7?", "answer": "7 * 7 = 49\n#### 1,049"},
]
ARC = [
    {
        "id": f"arc-{place}",
        "question": "Which is a planet?",
        "choices": {"label": ["A", "B"], "text": ["Mars", "The Moon"]},
        "answerKey": key,
    }
    for place, key in enumerate(["A", "B", "1"])
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a temporary cache and no network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def save(folder: Path, **splits: Sequence[Mapping[str, object]]) -> str:
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"hf:{folder}"


def read(
    source: str, columns: Columns | None = None, skip: int = 0, limit: int | None = None
) -> list[tuple[str, str, str, str]]:
    rows = read_rows(source, skip, limit, columns)
    return [(row.id, row.question, row.answer, row.answer_type) for row in rows]


def test_the_answer_follows_the_worked_solution(tmp_path: Path) -> None:
    source = save(tmp_path / "gsm", test=GSM, train=[{"question": "q", "answer": "1"}])
    assert read(source) == [
        ("gsm-0", "How many are 6 times 7?", "42", "number"),
        ("gsm-1", "And 7 times 7?", "1,049", "number"),
    ]
    assert read(source, skip=1) == read(source)[1:]
    assert read(source, limit=1) == read(source)[:1]
    assert [row[1] for row in read(f"{source}@train")] == ["q"]
    assert read_rows(source)[0].task.name == "math"


def test_choices_are_listed_and_answered_by_letter(tmp_path: Path) -> None:
    rows = read(save(tmp_path / "arc", train=ARC))
    assert rows[0] == ("arc-0", "Which is a planet?\nA. Mars\nB. The Moon", "A", "letter")
    assert [row[2] for row in rows] == ["A", "B", "A"]
    mmlu = [{"question": "Q?", "choices": ["one", "two", "three"], "answer": 2}]
    assert read(save(tmp_path / "mmlu", test=mmlu)) == [("mmlu-0", "Q?\nA. one\nB. two\nC. three", "C", "letter")]
    texts = [{"question": "Q?", "choices": ["one", "two"], "answer": "two"}]
    assert read(save(tmp_path / "texts", test=texts))[0][2] == "B"
    called = [{"question": "Q?", "choices": {"label": ["C", "D"], "text": ["one", "two"]}, "answerKey": "D"}]
    assert read(save(tmp_path / "called", test=called)) == [("called-0", "Q?\nA. one\nB. two", "B", "letter")]
    with pytest.raises(bw.ConfigError, match=r"row 0, answer: '5' is not a letter"):
        read(save(tmp_path / "beyond", test=[{"question": "Q?", "choices": ["one", "two"], "answer": 5}]))


@pytest.mark.parametrize(
    ("answers", "kind", "read_as"),
    [
        ([True, False], "yes_no", ["yes", "no"]),
        (["Yes", "no"], "yes_no", ["Yes", "no"]),
        (["True", "False"], "boolean", ["True", "False"]),
        ([3, 4.5], "number", ["3.0", "4.5"]),
        (["Paris", "7"], "text", ["Paris", "7"]),
    ],
)
def test_the_answer_type_is_detected(
    answers: Sequence[object], kind: str, read_as: Sequence[str], tmp_path: Path
) -> None:
    source = save(tmp_path / "rows", test=[{"prompt": "p", "target": answer} for answer in answers])
    assert [(row[2], row[3]) for row in read(source)] == [(answer, kind) for answer in read_as]
    assert {row[3] for row in read(source, Columns(answer_type="text"))} == {"text"}


def test_columns_can_be_named(tmp_path: Path) -> None:
    source = save(tmp_path / "rows", test=[{"question": "no", "answer": "no", "text": "6 * 7?", "gold": "42"}])
    assert read(source, Columns("text", "gold")) == [("rows-0", "6 * 7?", "42", "number")]


def test_a_missing_column_or_split_is_named(tmp_path: Path) -> None:
    source = save(tmp_path / "rows", test=[{"text": "6 * 7?", "gold": "42"}])
    for columns, message in [
        (None, "can't be detected in hf:"),
        (Columns("text"), "answer_column: can't be detected"),
        (Columns("words", "gold"), "question_column: is 'words'; use one of text, gold"),
        (Columns("text", "gold", "colour"), "answer_type: is 'colour'; use one of number"),
    ]:
        with pytest.raises(bw.ConfigError) as caught:
            read_rows(source, columns=columns)
        assert message in str(caught.value)
    with pytest.raises(bw.ConfigError, match=r"^data: .* has no split dev; use one of test"):
        read_rows(f"{source}@dev")
    with pytest.raises(bw.ConfigError, match=r"^skip: is 5, but .* has 1 rows"):
        read_rows(source, 5, None, Columns("text", "gold"))
    with pytest.raises(bw.ConfigError, match=r"^data: hf:nobody names no dataset"):
        read_rows("hf:nobody")
    with pytest.raises(bw.ConfigError, match=r"^data: hf:nobody/nothing can't be loaded"):
        read_rows("hf:nobody/nothing")
    with pytest.raises(bw.ConfigError, match=r"row 1, question: is missing"):
        read_rows(save(tmp_path / "none", test=[{"question": each, "answer": "1"} for each in ("q", None)]))
    with pytest.raises(bw.ConfigError, match=r"^data: hf:x+/x+ can't be loaded"):
        read_rows(f"hf:{'x' * 3000}/{'x' * 3000}")
    same = [{"id": "a", "question": "q", "answer": "1"}] * 2
    with pytest.raises(bw.ConfigError, match=r"row 1, id: 'a' is also that of row 0; give every row"):
        read_rows(save(tmp_path / "same", test=same))


def test_results_have_the_name_of_the_dataset(tmp_path: Path) -> None:
    assert source_name("hf:openai/gsm8k") == source_name("hf:openai/gsm8k/main@test") == "gsm8k"
    assert source_name(save(tmp_path / "mine", test=GSM)) == "mine"
    assert source_name("/data/gsm8k.jsonl") == "gsm8k"


def test_eval_reads_a_dataset(tmp_path: Path, tiny_model_folder: Path) -> None:
    source = save(tmp_path / "gsm", test=[{"text": row["question"], "gold": row["answer"]} for row in GSM])
    options = ["--question-column", "text", "--answer-column", "gold", "--strategy", "greedy", "--max-tokens", "4"]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["eval", source, *options, "--model", str(tiny_model_folder), "--out", str(out), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    (summary,) = json.loads((out / "summary.json").read_text())["data"]
    assert (summary["data"], summary["questions"]) == ("gsm", 2)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "datasets.py").write_text("raise ImportError('hidden', name='datasets')\n")
    done = run("eval", "hf:openai/gsm8k", env={"PYTHONPATH": str(tmp_path)})
    assert_rejected(done, "pip install 'branchwise[data]'")
