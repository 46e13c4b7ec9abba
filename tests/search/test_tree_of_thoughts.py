"""Tree of thoughts, breadth first and depth first, worked out by hand."""

import pytest

from branchwise.search import ToTBFS, ToTDFS
from tests.support.search_scripts import Script, rows, run, table

# Breadth first

THOUGHTS: Script = {
    "": [("a", 0.5), ("b", 0.9), ("c", 0.1), ("d", 0.6), ("e", 0.2), ("=1", 0.7)],
    "b": [("f", 0.8), ("g", 0.65), ("h", 0.3)],
    "b f": [("=2", 0.75), ("=3", 0.5), ("k", 0.6)],
}


def test_tot_bfs_by_hand() -> None:
    """Two states are kept of six thoughts: b .9 and =1 .7, then f .8 and =1, then =2 .75 and =1, which have ended."""
    result, recorder = run(ToTBFS(6, keep=2, value="verifier"), THOUGHTS)
    assert recorder.expansions == [("", 6), ("b", 3), ("b f", 3)]
    assert table(result.tree) == rows("""
        1 <0 a 0.5 pruned
        2 <0 b 0.9 open
        3 <0 c 0.1 pruned
        4 <0 d 0.6 pruned
        5 <0 e 0.2 pruned
        6 <0 =1 0.7 ended
        7 <2 f 0.8 open
        8 <2 g 0.65 pruned
        9 <2 h 0.3 pruned
        10 <7 =2 0.75 ended
        11 <7 =3 0.5 ended
        12 <7 k 0.6 pruned
    """)
    assert result.votes == pytest.approx({"2": 0.75, "1": 0.7, "3": 0.5})
    assert result.answer == "2"


def test_tot_bfs_prunes_states_below_the_threshold() -> None:
    result, recorder = run(ToTBFS(6, keep=2, threshold=0.85, value="verifier"), THOUGHTS)
    assert recorder.expansions == [("", 6), ("b", 3)]  # all thoughts of b score below .85
    assert result.tree.nodes[7].state == "pruned"
    assert result.answer == "1"


# Depth first

DEEP: Script = {
    "": [("a", 0.5), ("b", 0.8)],
    "b": [("c", 0.2), ("d", 0.4)],
    "b d": [("e", 0.1), ("=1", 0.2)],
    "a": [("f", 0.6), ("g", 0.7)],
    "a g": [("=2", 0.9), ("=3", 0.35)],
    "a f": [("=2", 0.5), ("h", 0.2)],
}


def test_tot_dfs_by_hand() -> None:
    """States below .3 are pruned: c, e and h. Nothing is left below b and d, so the search goes back to a."""
    search = run(ToTDFS(10, width=2, threshold=0.3, value="verifier"), DEEP)
    assert search.order == ["", "b", "b d", "a", "a g"]  # =1 at .2 is below the threshold, =2 at .9 is not
    assert table(search.result.tree) == rows("""
        1 <0 a 0.5 open
        2 <0 b 0.8 open
        3 <2 c 0.2 pruned
        4 <2 d 0.4 open
        5 <4 e 0.1 pruned
        6 <4 =1 0.2 ended
        7 <1 f 0.6 open
        8 <1 g 0.7 open
        9 <8 =2 0.9 ended
        10 <8 =3 0.35 ended
    """)
    assert search.result.answer == "2"
    assert search.result.tallies["best"].votes == pytest.approx({"2": 0.9, "3": 0.35, "1": 0.2})


@pytest.mark.parametrize(
    ("strategy", "order", "answer"),
    [
        (ToTDFS(10, width=2, answers=3, value="verifier"), ["", "b", "b d", "a", "a g", "a f"], "2"),
        (ToTDFS(3, width=2, value="verifier"), ["", "b", "b d"], "1"),
        (ToTDFS(10, width=2, threshold=0.0, value="verifier"), ["", "b", "b d"], "1"),
        (ToTDFS(10, width=2, threshold=0.75, value="verifier"), ["", "b"], None),
        (ToTDFS(10, width=2, max_steps=2, value="verifier"), ["", "b", "a"], None),
    ],
)
def test_tot_dfs_stops_at_its_limits(strategy: ToTDFS, order: list[str], answer: str | None) -> None:
    search = run(strategy, DEEP)
    assert (search.order, search.result.answer) == (order, answer)


def test_tot_dfs_expands_the_first_of_equal_scores_first() -> None:
    script: Script = {"": [("a", 0.5), ("b", 0.5)], "a": [("=1", 0.5), ("=2", 0.5)], "b": [("=3", 0.5), ("=3", 0.5)]}
    assert run(ToTDFS(4, width=2, value="verifier"), script).order == ["", "a"]
