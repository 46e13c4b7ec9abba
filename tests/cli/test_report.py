"""`branchwise report`: the table, the plots and the page."""

from pathlib import Path

from tests.support.commands import run
from tests.support.evaluations import make_answered
from tests.support.pages import Page


def test_report_writes_a_table_plots_and_a_page(tmp_path: Path) -> None:
    rows = [
        make_answered(str(i), name, i % 2 == 0, tokens) for i in range(4) for name, tokens in (("sc", 100), ("ac", 30))
    ]
    (tmp_path / "results.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    done = run("report", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "rows, 4 questions"
    assert lines[2].split()[:4] == ["sc", "2", "of", "4"]
    assert "-70.0%" in lines[3]
    assert (tmp_path / "accuracy-rows.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "accuracy-rows.svg").read_text()
    page = Page((tmp_path / "report.html").read_text())
    assert page.tags.count("details") == 4 + 8
    other = run("report", str(tmp_path), "--baseline", "ac")
    assert other.stdout.splitlines()[2].split()[0] == "ac"
    refused = run("report", str(tmp_path), "--baseline", "xx")
    assert "baseline: 'xx' was not run; use one of sc, ac" in refused.stderr.replace("--", "")
