"""Best-of-N, worked out by hand. A table has a row for each node: number, parent, step, value, state."""

import pytest

from branchwise.search import BestOfN
from tests.support.search_scripts import Script, rows, run, table

PATHS: Script = {"": [("a =1", 0.6), ("b =2", 0.5), ("c =2", 0.45), ("d =3", 0.1)]}


@pytest.mark.parametrize(
    ("choose", "answer", "confidence"),
    [
        # P(Beta(votes + 1, runner-up + 1) > 1/2); the plain votes are 1: 1, 2: 2, 3: 1.
        ("best", "1", 5 / 16),  # Beta(2, 3): P(Bin(4, 1/2) <= 1)
        ("weighted", "2", 11 / 16),  # Beta(3, 2): P(Bin(4, 1/2) <= 2)
        ("vote", "2", 11 / 16),
    ],
)
def test_best_of_n_by_hand(choose: str, answer: str, confidence: float) -> None:
    strategy = BestOfN(4, value="verifier", choose=choose)  # type: ignore[arg-type]
    result, recorder = run(strategy, PATHS)
    assert recorder.expansions == [("", 4)]
    assert table(result.tree) == rows("""
        1 <0 a =1 0.6 ended
        2 <0 b =2 0.5 ended
        3 <0 c =2 0.45 ended
        4 <0 d =3 0.1 ended
    """)
    assert result.answer == answer
    assert result.confidence == pytest.approx(confidence)
    plain, weighted = {"2": 2, "1": 1, "3": 1}, {"2": 0.95, "1": 0.6, "3": 0.1}
    assert result.votes == pytest.approx(weighted if choose == "weighted" else plain)
    assert result.tallies["plain"].votes == plain
    assert result.tallies["best"].votes == {"1": 0.6, "2": 0.5, "3": 0.1}


STEPS: Script = {"": [("a", 0.9), ("b", 0.6)], "a": [("=1", 0.5)], "b": [("=2", 0.6)]}


@pytest.mark.parametrize(
    ("over", "scores", "answer"),
    [
        ("last", {"1": 0.5, "2": 0.6}, "2"),
        ("min", {"1": 0.5, "2": 0.6}, "2"),
        ("product", {"1": 0.45, "2": 0.36}, "1"),
        ("mean", {"1": 0.7, "2": 0.6}, "1"),
    ],
)
def test_over_reduces_the_values_of_a_paths_steps(over: str, scores: dict[str, float], answer: str) -> None:
    strategy = BestOfN(2, value="verifier", step="line", over=over)  # type: ignore[arg-type]
    result, recorder = run(strategy, STEPS)
    assert recorder.expansions == [("", 2), ("a", 1), ("b", 1)]
    assert result.tallies["best"].votes == pytest.approx(scores)
    assert result.answer == answer
