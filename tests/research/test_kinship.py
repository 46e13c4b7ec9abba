"""Values of continued paths as votes, against values computed by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from branchwise.core.usage import Usage
from branchwise.evaluation.answered import Answered, AnsweredPath
from research.kinship import KinshipRow, continued, kinship, main, table


def path(branch: int, vote: str, *, parent: int | None = None, kept: int = 0, text: str = "") -> AnsweredPath:
    return AnsweredPath(
        branch=branch,
        answer=vote,
        vote=vote,
        text=text or f"{branch} {vote}",
        tokens=10,
        parent=parent,
        prefix_tokens=kept,
        prefix_chars=0,
        stop_reason="end",
    )


def answered(*paths: AnsweredPath, name: str = "q") -> Answered:
    return Answered(
        data="d",
        id=name,
        strategy="s",
        question="?",
        reference="1",
        correct=True,
        answer="1",
        confidence=None,
        votes={},
        outcome="complete",
        usage=Usage(),
        paths=paths,
        right=(False,) * len(paths),
    )


def fresh_paths(votes: Sequence[str]) -> Answered:
    return answered(*(path(branch, vote) for branch, vote in enumerate(votes)))


def test_correlation_is_agreement_beyond_fresh_paths() -> None:
    """Two paths keep 3 of the 10 tokens of a parent that votes for 1, and one of them votes for 1.

    Of the three other paths from the prompt, one votes for 1. The correlation is (1/2 - 1/3) / (1 - 1/3) = 1/4, and the
    vote's value is 2 / (1 + 1/4) - 1 = 3/5 of a fresh vote.
    """
    root, other = path(0, "1"), path(1, "2")
    run = answered(root, other, path(2, "1", parent=0, kept=3), path(3, "2", parent=0, kept=3))
    rows = kinship(list(continued([fresh_paths("1212")], [run])))
    assert list(rows) == [3]
    assert rows[3] == pytest.approx(KinshipRow(2, 0.3, 1 / 2, 1 / 3))
    assert rows[3].correlation == pytest.approx(1 / 4)
    assert rows[3].vote_value == pytest.approx(3 / 5)
    assert table(rows).splitlines()[-1] == "| 30% | 2 | 50% | 33% | 0.60 | 0.70 |"


def test_a_correlation_of_minus_one_gives_an_infinite_value() -> None:
    row = KinshipRow(1, 0.3, 0.0, 0.75)
    assert (row.correlation, row.vote_value) == (-1.0, math.inf)
    assert table({3: row}).splitlines()[-1] == "| 30% | 1 | 0% | 75% | inf | 0.70 |"


def test_a_folder_without_a_run_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), str(tmp_path)]) == 2
    assert "holds no results; name the folder of an evaluation" in capsys.readouterr().err


def test_a_continued_parent_does_not_count_as_a_fresh_path() -> None:
    run = answered(path(0, "2"), path(1, "1", parent=0, kept=1), path(2, "1", parent=1, kept=5))
    first, second = continued([fresh_paths("2111")], [run])
    assert (first.fresh, second.fresh) == (0, 3 / 4)


def test_duplicate_paths_and_unknown_questions_are_skipped() -> None:
    run = answered(path(0, "1"), path(1, "1", parent=0, kept=3))
    unknown = answered(path(0, "1"), path(1, "1", parent=0, kept=3), name="unknown")
    assert len(list(continued([fresh_paths("11")], [run, run, unknown]))) == 1
