"""Beam search, worked out by hand."""

import pytest

from branchwise.search import Beam
from tests.support.search_scripts import Script, rows, run, table

BEAM: Script = {
    "": [("a", 0.5), ("b", 0.8), ("c", 0.2), ("d", 0.6)],
    "b": [("e", 0.3), ("=1", 0.7)],
    "d": [("f", 0.9), ("g", 0.4)],
    "d f": [("=2", 0.95), ("=1", 0.35)],
    "d g": [("h", 0.1), ("=2", 0.2)],
}


@pytest.mark.parametrize(("choose", "answer"), [("weighted", "2"), ("best", "2"), ("vote", "1")])
def test_beam_by_hand(choose: str, answer: str) -> None:
    """Four paths of width two: two steps of every level are kept."""
    result, recorder = run(Beam(4, width=2, value="verifier", choose=choose), BEAM)  # type: ignore[arg-type]
    assert recorder.expansions == [("", 4), ("b", 2), ("d", 2), ("d f", 2), ("d g", 2)]
    assert table(result.tree) == rows("""
        1 <0 a 0.5 pruned      # b .8 and d .6 are kept
        2 <0 b 0.8 open
        3 <0 c 0.2 pruned
        4 <0 d 0.6 open
        5 <2 e 0.3 pruned      # f .9 and g .4 are kept; =1 has left the beam
        6 <2 =1 0.7 ended
        7 <4 f 0.9 open
        8 <4 g 0.4 open
        9 <7 =2 0.95 ended     # now four have ended
        10 <7 =1 0.35 ended
        11 <8 h 0.1 pruned
        12 <8 =2 0.2 ended
    """)
    assert result.answer == answer  # the votes are two to two, and 1 came first
    weighted = {"2": 1.15, "1": 1.05}  # .95 + .2, .7 + .35
    assert result.votes == pytest.approx(weighted if choose == "weighted" else {"1": 2, "2": 2})
    assert result.tallies["best"].votes == pytest.approx({"2": 0.95, "1": 0.7})


def test_a_beam_can_rank_steps_by_all_their_values() -> None:
    """By the product of its values, "a c" scores .5 * .9 = .45 and "b e" .8 * .6 = .48."""
    script: Script = {
        "": [("a", 0.5), ("b", 0.8)],
        "a": [("c", 0.9)],
        "b": [("e", 0.6)],
        "a c": [("=1", 1.0)],
        "b e": [("=2", 1.0)],
    }
    tie: Script = {**script, "": [("a", 0.5), ("b", 0.8), ("a", 0.5), ("b", 0.8)]}
    assert run(Beam(4, width=4, value="verifier", over="product"), tie).order == ["", "b", "b e"]
    assert run(Beam(2, width=1, value="verifier"), script).order == ["", "b", "a", "a c", "b e"]
