"""Diverse verifier tree search, worked out by hand."""

import pytest

from branchwise.search import DVTS
from tests.support.search_scripts import Script, rows, run, table

FOREST: Script = {
    "": [("a", 0.7), ("b", 0.8), ("c", 0.2), ("d", 0.3)],
    "b": [("e", 0.3), ("=1", 0.7)],
    "d": [("f", 0.9), ("g", 0.4)],
    "d f": [("=2", 0.6), ("h", 0.65)],
    "d f h": [("=1", 0.5), ("=3", 0.4)],
}


def test_dvts_by_hand() -> None:
    """Two subtrees of width two. A beam would keep a and b; here the second subtree keeps its own best, d."""
    result, recorder = run(DVTS(4, width=2, value="verifier"), FOREST)
    assert recorder.expansions == [("", 2), ("", 2), ("b", 2), ("d", 2), ("d f", 2), ("d f h", 2)]
    assert table(result.tree) == rows("""
        1 <0 a 0.7 pruned
        2 <0 b 0.8 open
        3 <0 c 0.2 pruned
        4 <0 d 0.3 open
        5 <2 e 0.3 pruned      # the best step of the first subtree ends it
        6 <2 =1 0.7 ended
        7 <4 f 0.9 open
        8 <4 g 0.4 pruned
        9 <7 =2 0.6 ended
        10 <7 h 0.65 open
        11 <10 =1 0.5 ended
        12 <10 =3 0.4 ended
    """)
    assert result.answer == "1"
    assert result.votes == pytest.approx({"1": 1.2, "2": 0.6, "3": 0.4})
