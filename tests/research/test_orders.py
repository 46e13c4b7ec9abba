"""Strategies over orders of recorded paths, compared with the driver on the same paths."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise as bw
from branchwise.core.usage import Usage
from branchwise.evaluation.answered import Answered, AnsweredPath
from branchwise.strategies.strategy import AnyStrategy
from research.orders import PoolPath, averaged, default_strategies, main, pooled, replay, table
from tests.support.vote_scripts import answers_of, run

ROOTED = bw.AdaptivePathConsistency(10, ties=0)


def pool_paths(votes: str, right: str = "1") -> list[PoolPath]:
    """Return paths of ten tokens; "-" states no answer."""
    return [PoolPath(None if vote == "-" else vote, 10, vote == right) for vote in votes]


def answered(votes: str, parents: Sequence[int | None] | None = None) -> Answered:
    paths = tuple(
        AnsweredPath(
            branch=branch,
            answer=vote,
            vote=vote,
            text=vote,
            tokens=10,
            parent=parent,
            prefix_tokens=0,
            prefix_chars=0,
            stop_reason="end",
        )
        for branch, (vote, parent) in enumerate(zip(votes, parents or [None] * len(votes), strict=True))
    )
    return Answered(
        data="d",
        id="q",
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
        right=tuple(vote == "1" for vote in votes),
    )


@pytest.mark.parametrize(
    "strategy",
    [bw.SelfConsistency(10), bw.AdaptiveConsistency(10), bw.EarlyStopping(10), ROOTED, replace(ROOTED, stakes=False)],
)
@settings(max_examples=15, deadline=None)
@given(st.text("123-", min_size=10, max_size=10))
def test_replay_agrees_with_the_driver(strategy: AnyStrategy, votes: str) -> None:
    result = run(strategy, votes)
    answer = None if result.answer is None else str(result.answer)
    [one] = replay(strategy, [pool_paths(votes, right=answer or "none")])
    assert one.paths == len(answers_of(result))
    assert one.tokens == 10 * one.paths
    assert one.right == (answer is not None)


def test_questions_of_a_batch_share_paths() -> None:
    """The two questions have twelve paths; the one with even votes gets more of them."""
    one, other = replay(bw.BlendASC(6, most=10, window=1), [pool_paths("1111111111"), pool_paths("1212121212")])
    assert one.paths + other.paths == 12
    assert one.paths < other.paths


def test_a_question_counts_with_its_mean_over_the_same_orders() -> None:
    """One path is right and has ten tokens, the other is wrong and has thirty: the mean is 30 - 20 x right."""
    paths = [PoolPath("1", 10, True), PoolPath("2", 30, False)]
    first, second = bw.SelfConsistency(1), bw.SelfConsistency(1)
    found = averaged({"a": first, "b": second, "all": bw.SelfConsistency(2)}, [paths], orders=400, seed=0)
    [one] = found["a"]
    assert one.right == pytest.approx(0.5, abs=0.1)
    assert one.tokens == pytest.approx(30 - 20 * one.right)
    assert found["a"] == found["b"]
    assert found["all"][0].tokens == 40
    assert found["all"][0].right == one.right  # the first answer leads a tie


def test_the_table_shows_means_and_savings() -> None:
    found = averaged({"all": bw.SelfConsistency(4), "half": bw.SelfConsistency(2)}, [pool_paths("1111")] * 2, 3, 0)
    *_, whole, half = table(found).splitlines()
    assert [cell.strip() for cell in whole.split("|")][3:6] == ["", "40", ""]
    assert half.split(" | ")[2] == "the same"
    assert half.split(" | ")[3:] == ["20", "-50% (-50 to -50)", "2.0 |"]


def test_a_pool_is_rows_of_paths_from_the_prompt() -> None:
    assert pooled([answered("11"), answered("12")], skip=1) == [pool_paths("12")]
    assert pooled([answered("11"), answered("12")], limit=1) == [pool_paths("11")]
    for rows, skip in (([answered("11")], 1), ([answered("11", [None, 0])], 0), ([answered("1"), answered("12")], 0)):
        with pytest.raises(bw.ConfigError, match="pool"):
            pooled(rows, skip)


READING = "reads more of paths than their answers"


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        (bw.PrefixConsistency(1), READING),
        (bw.PathConsistency(6), READING),
        (bw.WeightedVote(6), READING),
        (bw.WeightedVote.cisc(6), READING),
        (bw.BestOfN(6), READING),
        (bw.AdaptivePathConsistency(6), READING),
        (bw.Greedy(), READING),  # the pool has no path at temperature 0
        (bw.SelfConsistency(7), "more than the pool has"),
    ],
)
def test_strategies_that_read_more_than_answers_are_rejected(strategy: AnyStrategy, problem: str) -> None:
    with pytest.raises(bw.ConfigError, match=problem):
        replay(strategy, [pool_paths("121212")])


@pytest.mark.parametrize(
    ("rows", "skip", "limit"),
    [
        ([answered("11"), answered("12").model_copy(update={"strategy": "esc"})], 0, None),
        ([answered("11")], -1, None),
        ([answered("11")], 0, 0),
    ],
)
def test_several_strategies_or_invalid_rows_are_rejected(rows: list[Answered], skip: int, limit: int | None) -> None:
    with pytest.raises(bw.ConfigError):
        pooled(rows, skip, limit)
    with pytest.raises(bw.ConfigError, match="orders"):
        averaged({"a": bw.SelfConsistency(1)}, [pool_paths("1")], 0, 0)


def test_main_prints_the_table_of_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.jsonl").write_text(answered("1112").model_dump_json() + "\n")
    options = ["--strategy", "self-consistency", "--strategy", "self-consistency:paths=2", "--orders", "4"]
    assert main([str(tmp_path), *options]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in shown[2:]] == ["| self-consistency", "| self-consistency:paths=2"]
    (tmp_path / "results.jsonl").write_text(answered("1" * 20).model_dump_json() + "\n")
    assert main([str(tmp_path), "--orders", "1"]) == 0
    assert capsys.readouterr().out.count("100.0%") == len(default_strategies(20))
    assert main([str(tmp_path / "none"), *options]) == 2
    assert "holds no results" in capsys.readouterr().err
