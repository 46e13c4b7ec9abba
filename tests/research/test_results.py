"""The tables of docs/results.md equal those of the runs' summaries."""

from pathlib import Path

from branchwise.core.usage import Usage
from branchwise.evaluation.report.summary import DataSummary, StrategySummary, Summary
from branchwise.evaluation.statistics import Estimate
from research.results import markdown, runs
from research.tables import tables

DOCS = Path(__file__).parents[2] / "docs"


def strategy(name: str, *, right: int, sampled: int, first: bool) -> StrategySummary:
    return StrategySummary(
        strategy=name,
        questions=40,
        right=right,
        accuracy=Estimate(right / 40, 0.25, 0.55),
        to_baseline=None if first else Estimate(-0.05, -0.1, 0.025),
        sampled=sampled,
        sampled_to_baseline=None if first else Estimate(0.75, 0.7, 0.8),
        paths=320,
        failed=0,
        unanswered=1,
        calibration={},
        metrics={},
        usage=Usage(prompt=4000, reused=3600, prefilled=400, sampled=sampled, forward_passes=8000.0),
        tokens_to={},
        seconds_p50=None if first else 2.25,
        seconds_p95=None,
    )


def test_a_table_has_a_row_for_each_strategy() -> None:
    both = (
        strategy("self-consistency", right=16, sampled=60_000, first=True),
        strategy("path-consistency", right=14, sampled=45_000, first=False),
    )
    data = DataSummary(data="gsm8k", questions=40, baseline="self-consistency", single_path=0.3, strategies=both)
    head, _, *rows = tables(Summary(data=(data,))).splitlines()
    assert head == "gsm8k, 40 questions; one path of self-consistency is right 30.0%:"
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in rows] == [
        [
            *("strategy", "right", "accuracy, 95%", "to the first", "tokens", "to the first"),
            *("paths", "prefilled", "reused", "passes", "seconds"),
        ],
        ["---"] * 11,
        ["self-consistency", "16 of 40", "40.0% (25 to 55)", "", "1,500", "", "8.0", "10", "90.0%", "200", ""],
        [
            *("path-consistency", "14 of 40", "35.0% (25 to 55)", "-5.0 (-10 to +2)", "1,125", "-25% (-30 to -20)"),
            *("8.0", "10", "90.0%", "200", "2.2"),
        ],
    ]


def test_every_run_has_its_own_folder() -> None:
    folders = [command[-1] for command in runs(Path("results"))]
    assert len(set(folders)) == len(folders) == 40


def test_docs_contain_the_table_of_every_summary() -> None:
    kept = sorted((DOCS / "results").glob("*.json"))
    text = (DOCS / "results.md").read_text(encoding="utf-8") if kept else ""
    for file in kept:
        assert markdown(file.stem, Summary.model_validate_json(file.read_bytes())) in text, file.name
