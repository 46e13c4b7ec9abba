"""Monte Carlo tree search with c = 1, worked out by hand."""

import pytest

from branchwise.search import MCTS
from tests.support.search_scripts import Script, SearchRun, rows, run, table

GAME: Script = {
    "": [("a", 0.6), ("b", 0.5)],
    "a": [("c", 0.2), ("d", 0.4)],
    "b": [("e", 0.9), ("=1", 0.8)],
    "b e": [("=2", 0.3), ("=1", 0.1)],
    "a d": [("=2", 0.6), ("f", 0.1)],
    "a c": [("=3", 0.2), ("=2", 0.5)],
}


def check_totals(search: SearchRun, expected: dict[str, tuple[int, float]]) -> None:
    """Check the visits and the sums of values of all nodes, by path."""
    found = {name: (node.visits, node.value_sum) for name, node in search.nodes.items()}
    assert found.keys() == expected.keys()
    for name, (visits, total) in expected.items():
        assert found[name][0] == visits, name
        assert found[name][1] == pytest.approx(total), name
    assert [node.visits for node in search.result.tree.nodes] == [n.visits for n in search.recorder.state[0].nodes]


def test_uct_by_hand() -> None:
    """Six simulations, one at a time. UCT score of a child: W / N + sqrt(ln N_parent / N).

    sim  root (N, W)  a                             b                             expands
    1    0, 0                                                                     the prompt: a .6, b .5
    2    2, 1.1       .6 + sqrt(ln 2) = 1.433       .5 + .833 = 1.333             a: c .2, d .4
    3    4, 1.7       .4 + sqrt(ln 4 / 3) = 1.080   .5 + sqrt(ln 4) = 1.677       b: e .9, =1 .8
    4    6, 3.4       .4 + sqrt(ln 6 / 3) = 1.173   .733 + .773 = 1.506           b e (=1 has ended): =2 .3, =1 .1
    5    8, 3.8       the only open child           exhausted                     a d (.4 against .2): =2 .6, f .1
    6    10, 4.5      N 5; below it c .2 + sqrt(ln 5) = 1.469, d .367 + sqrt(ln 5 / 3) = 1.099: a c: =3 .2, =2 .5
    """
    search = run(MCTS(6, exploration=1, parallel=1, value="verifier"), GAME)
    assert search.order == ["", "a", "b", "b e", "a d", "a c"]
    assert table(search.result.tree) == rows("""
        1 <0 a 0.6 open
        2 <0 b 0.5 open
        3 <1 c 0.2 open
        4 <1 d 0.4 open
        5 <2 e 0.9 open
        6 <2 =1 0.8 ended
        7 <5 =2 0.3 ended
        8 <5 =1 0.1 ended
        9 <4 =2 0.6 ended
        10 <4 f 0.1 open
        11 <3 =3 0.2 ended
        12 <3 =2 0.5 ended
    """)
    check_totals(
        search,
        {
            "": (12, 5.2),
            "a": (7, 2.6),
            "b": (5, 2.6),
            "a c": (3, 0.9),
            "a d": (3, 1.1),
            "b e": (3, 1.3),
            "b =1": (1, 0.8),
            "b e =2": (1, 0.3),
            "b e =1": (1, 0.1),
            "a d =2": (1, 0.6),
            "a d f": (1, 0.1),
            "a c =3": (1, 0.2),
            "a c =2": (1, 0.5),
        },
    )
    assert search.nodes["b e"].mean == pytest.approx(1.3 / 3)
    assert search.result.votes == pytest.approx({"2": 1.4, "1": 0.9, "3": 0.2})
    assert search.result.answer == "2"


WIDE: Script = {
    "": [("a", 0.6), ("b", 0.5), ("x", 0.4)],
    "a": [("c", 0.2), ("d", 0.4), ("h", 0.3)],
    "b": [("e", 0.3), ("g", 0.1), ("i", 0.2)],
    "x": [("j", 0.1), ("k", 0.1), ("l", 0.1)],
    "a d": [("=1", 0.5), ("=2", 0.3), ("=3", 0.1)],
    "b e": [("=1", 0.2), ("=2", 0.2), ("=3", 0.2)],
}


def test_uct_in_parallel_by_hand() -> None:
    """Three simulations at a time, three steps each. A running one is a visit with value 0, from its leaf to the root.

    1     the prompt: a .6, b .5, x .4. There is no other leaf while it runs.
    2-4   a (highest score), b (a is running), x.
    5     a is done (c .2, d .4, h .3); b and x are running: a d.
    6     b is done (e .3, g .1, i .2); x and d are running: 9 + 2 visits of the root.
          a: 1.5 / (4 + 1) + sqrt(ln 11 / 5) = .992   b: 1.1 / 4 + sqrt(ln 11 / 4) = 1.049 -> b e (.3)
          (without the two running: 1.5 / 4 + sqrt(ln 9 / 4) = 1.116 against 1.1 / 4 + .741 = 1.016 -> a)
    """
    search = run(MCTS(6, width=3, exploration=1, parallel=3, value="verifier"), WIDE)
    assert search.order == ["", "a", "b", "x", "a d", "b e"]
    found = {name: (node.visits, node.value_sum) for name, node in search.nodes.items()}
    for name, visits, total in (
        ("", 18, 4.8),
        ("a", 7, 2.4),
        ("b", 7, 1.7),
        ("x", 4, 0.7),
        ("a d", 4, 1.3),
        ("b e", 4, 0.9),
        ("a h", 1, 0.3),
    ):
        assert found[name][0] == visits, name
        assert found[name][1] == pytest.approx(total), name
    assert not any(node.in_flight for node in search.nodes.values())
    assert search.result.votes == pytest.approx({"1": 0.7, "2": 0.5, "3": 0.3})
    serial = run(MCTS(6, width=3, exploration=1, parallel=1, value="verifier"), WIDE)
    # 3: ln 6: a .375 + sqrt(ln 6 / 4) = 1.044, b .5 + sqrt(ln 6) = 1.839. 4: x. 5: ln 12: a .375 + .788, b .275 + .788.
    # 6: a N 7, W 2.4: .343 + sqrt(ln 15 / 7) = .965, b .275 + sqrt(ln 15 / 4) = 1.098.
    assert serial.order == ["", "a", "b", "x", "a d", "b e"]


PRIORS: Script = {  # the third number is the probability of each token of the step
    "": [("a", 0.6, 0.2), ("b", 0.5, 0.8)],
    "a": [("c", 0.2, 0.1), ("d", 0.1, 0.3)],
    "b": [("e", 0.9, 0.5), ("=1", 0.8, 0.5)],
    "b e": [("=2", 0.3), ("=1", 0.1)],
    "a d": [("=2", 0.7), ("f", 0.1)],
}


def test_puct_by_hand() -> None:
    """Five simulations. PUCT score: W / N + P sqrt(N_parent) / (1 + N); P is .2 for a, .8 for b, 1/4 for c, 3/4 for d.

    sim  root (N, W)  a                               b                                   expands
    2    2, 1.1       .6 + .2 sqrt(2) / 2 = .741      .5 + .8 sqrt(2) / 2 = 1.066         b: e .9, =1 .8
    3    4, 2.8       .6 + .2 * 2 / 2 = .8            2.2 / 3 + .8 * 2 / 4 = 1.133        b e: =2 .3, =1 .1
    4    6, 3.2       .6 + .2 sqrt(6) / 2             exhausted                           a: c .2, d .1
    5    8, 3.5       N 3; c .2 + sqrt(3) / 8 = .417, d .1 + 3 sqrt(3) / 8 = .750 a d: =2 .7, f .1
    """
    search = run(MCTS(5, rule="puct", exploration=1, parallel=1, value="verifier"), PRIORS)
    assert search.order == ["", "b", "b e", "a", "a d"]
    check_totals(
        search,
        {
            "": (10, 4.3),
            "a": (5, 1.7),
            "b": (5, 2.6),
            "b e": (3, 1.3),
            "a c": (1, 0.2),
            "a d": (3, 0.9),
            "b =1": (1, 0.8),
            "b e =2": (1, 0.3),
            "b e =1": (1, 0.1),
            "a d =2": (1, 0.7),
            "a d f": (1, 0.1),
        },
    )
    assert search.result.votes == pytest.approx({"2": 1.0, "1": 0.9})


def test_puct_divides_by_one_more_than_the_visits() -> None:
    """In sim 3, a: 1.5 / 3 + .5 * 2 / (1 + 3) = .75, b: .1 + .5 * 2 / (1 + 1) = .6."""
    script: Script = {
        "": [("a", 0.6, 0.5), ("b", 0.1, 0.5)],
        "a": [("c", 0.5), ("d", 0.4)],
        "a c": [("=1", 0.5), ("=2", 0.1)],
    }
    strategy = MCTS(3, rule="puct", exploration=1, parallel=1, value="verifier")
    assert run(strategy, script).order == ["", "a", "a c"]


def test_puct_in_parallel_by_hand() -> None:
    """WIDE with priors .4 for a, .4 for b and .2 for x; the steps below have equal priors.

    6     x and a d are running; a: 1.5 / 5 + .4 sqrt(11) / 6 = .521, b: 1.1 / 4 + .4 sqrt(11) / 5 = .540
          (without the two running: .375 + .4 * 3 / 5 = .615 against .275 + .4 * 3 / 5 = .515)
    """
    script: Script = {**WIDE, "": [("a", 0.6, 0.4), ("b", 0.5, 0.4), ("x", 0.4, 0.2)]}
    search = run(MCTS(6, width=3, rule="puct", exploration=1, parallel=3, value="verifier"), script)
    assert search.order == ["", "a", "b", "x", "a d", "b e"]
