"""Formats of local files: JSON Lines, JSON arrays, CSV and TSV, compressed or not, and files that can't be read."""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.evaluation import Row, read_rows
from branchwise.evaluation.dataset import source_name
from tests.support.commands import assert_rejected, run

ROWS = [
    {"id": "a", "question": "What is 1 + 1?\nSay it.", "answer": "2"},
    {"id": "b", "question": 'A "b", c; d\te é 七?', "answer": "1,072"},
]


def table(rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TEXTS = {
    "x.jsonl": LINES,
    "blank.jsonl": f"\n\r\n{LINES}\n",
    "x.json": json.dumps(ROWS, indent=2),
    "short.json": json.dumps(ROWS),
    "lines.json": LINES,
    "array.jsonl": f"\n {json.dumps(ROWS)}",
    "x.csv": table(ROWS),
    "X.CSV": table(ROWS).replace("\r\n", "\n"),
    "german.csv": table(ROWS, ";"),
    "x.tsv": table(ROWS, "\t"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_gives_the_same_rows(name: str, compressed: bool, encoding: str, tmp_path: Path) -> None:
    data = TEXTS[name].encode(encoding)
    file = tmp_path / (f"{name}.gz" if compressed else name)
    file.write_bytes(gzip.compress(data) if compressed else data)
    rows = read_rows(str(file))
    assert [row.question.replace("\r\n", "\n") for row in rows] == [row["question"] for row in ROWS]
    assert [(row.id, row.answer, row.answer_type) for row in rows] == [("a", "2", "number"), ("b", "1,072", "number")]
    assert source_name(str(file)) == name.rpartition(".")[0]


def test_compressed_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHWISE_DATA", str(tmp_path))
    (tmp_path / "one.csv").write_text(TEXTS["x.csv"])
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "plain.gz").write_text(LINES)  # the content decides
    assert [len(read_rows(name)) for name in ("one", "two", "plain.gz")] == [2, 2, 2]


def read(folder: Path, name: str, data: str | bytes, limit: int | None = None) -> Sequence[Row]:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_rows(str(folder / name), limit=limit)


WHOLE = '{"question": "q", "answer": 1}'
CUT = gzip.compress((LINES * 2_000).encode(), mtime=0)[:-400]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", "", "x.csv holds no rows"),
        ("x.csv", "\n\n", "x.csv holds no rows"),
        ("x.csv", "question,answer\n", "x.csv holds no rows"),
        ("x.csv", "question,answer\n1+1?,2\n\na,b,c\n", "line 4: has 3 fields, the first line has 2; quote fields"),
        ("x.csv", 'question,answer\n"1\n+\n1?",2\n2+2?\n', "line 5: has 1 fields, the first line has 2"),
        ("x.csv", 'question,answer\n1+1?,2\n"never\nclosed,2\n', "line 3: unexpected end of data"),
        ("x.csv", 'question,answer\n"1" + 1,2\n', "line 2: ',' expected after '\"'"),
        ("x.csv", "question,answer,question\nq,1,q\n", "x.csv has two columns question; name every column once"),
        ("x.csv", 'question,answer\n"a\nb",1\nq,\n', "line 4, answer: is empty"),
        ("x.csv", "a,b\nq,1\n", "question_column: can't be detected in .*x.csv; name it: the columns are a, b"),
        ("x.csv", "id,question,answer\n1,q,1\n1,q,2\n", "x.csv, line 3, id: '1' is also that of line 2"),
        ("x.jsonl", "", "holds no rows"),
        ("x.json", '{\n"question": "q",\n"answer": 1\n}', "line 1, JSON: .*; write each row in one line, or all rows"),
        ("x.jsonl", f"{WHOLE},\n{WHOLE}", "line 1, JSON: Extra data"),
        ("x.jsonl", '{"question": "q", "answer": NaN}', "line 1, answer: is empty"),
        ("x.jsonl", f"{WHOLE}\n{WHOLE[:-1]},}}\n", "line 2, JSON: (Illegal trailing comma|Expecting property name)"),
        ("x.jsonl", f'{WHOLE}\n{{"question": "q\0", "answer": 1}}\n', "line 2: holds a NUL byte; give JSON Lines"),
        ("x.jsonl", WHOLE.encode("utf-16-le"), "line 1: holds a NUL byte"),  # without its byte order mark
        ("x.jsonl", f"{WHOLE}\n{{'question': 'q', 'answer': 1}}", "line 2, JSON: Expecting property name"),
        ("x.jsonl", f'{WHOLE}\n{{"question": "q", "answer": {"1" * 5_000}}}', "line 2, JSON: Exceeds the limit"),
        ("x.jsonl", '{"question": "q", "answer": ' + "[" * 200_000, "line 1, JSON: "),
        ("x.json", "[]", "x.json holds no rows"),
        ("x.json", f"[{WHOLE},\n{WHOLE},\n]", "line 3, JSON: (Illegal trailing comma|Expecting value)"),
        ("x.json", f"[{WHOLE},\n{WHOLE}", "line 2, JSON: Expecting ',' delimiter"),
        ("x.json", f'[{WHOLE},\n{{"question": "q"}}]', "x.json, row 1, answer: is missing"),
        ("x.json", f"[{WHOLE}, 7]", "row 1, JSON: got int, must be an object"),
        ("x.csv", "question,answer\nCaf\xe9?,1\n".encode("latin-1"), "line 2: is not UTF-8"),
        ("x.csv", codecs.BOM_UTF16_LE + b"q\0,", "cannot read .*truncated data"),
        ("x.jsonl.gz", CUT, "cannot read .*ended before the end-of-stream marker"),
        ("x.jsonl.gz", gzip.compress(LINES.encode())[:15] + b"\xff" * 60, "cannot read "),
        (
            "x.parquet",
            b"PAR1\x15\x04\x15\0\0PAR1",
            "line 1: holds a NUL byte; give JSON Lines, a JSON array, CSV or TSV",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, data: str | bytes, message: str | None, tmp_path: Path) -> None:
    if message is None:
        assert [row.answer_type for row in read(tmp_path, name, data)] == ["text", "text"]
        return
    with pytest.raises(bw.ConfigError, match=message) as caught:
        read(tmp_path, name, data)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("data: ", "question_column: "))


def test_rows_before_a_defect_can_be_asked(tmp_path: Path) -> None:
    assert len(read(tmp_path, "x.jsonl.gz", CUT, limit=1)) == 1
    assert len(read(tmp_path, "x.csv", "question,answer\n1+1?,2\n2+2?\n", limit=1)) == 1


def test_cells_may_be_long_and_hold_line_breaks(tmp_path: Path) -> None:
    limit, long = csv.field_size_limit(), "word\n" * 100_000
    rows = read(tmp_path, "x.csv", f'question,answer\n"{long}",1\n')
    assert (rows[0].question, rows[0].answer, csv.field_size_limit()) == (long, "1", limit)


def test_blanks_and_quotes_after_a_comma_are_no_part_of_a_cell(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "x.csv", 'question, answer\n"1, 2 or 3?", "1,072"\n')
    assert (row.question, row.answer) == ("1, 2 or 3?", "1,072")


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    numbers = ["2", "2.50", "-0.1", "12345678901234567890123", "3.14159265358979323846", "1e3"]
    text = "".join(f'{{"question": "q", "answer": {number}}}\n' for number in numbers)
    assert [row.answer for row in read(tmp_path, "x.jsonl", text)] == numbers


def test_eval_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,answer_type\nq,1,number\nq,many,number\n")
    assert_rejected(run("eval", "rows.csv", cwd=tmp_path), "rows.csv, line 3, answer: 'many' is not a number; fix it")
