"""Searches that choose where to go on in the whole tree, each worked out by hand."""

import pytest

from branchwise.search.best_first import BestFirst
from branchwise.search.mcts import MCTS
from branchwise.search.tree_of_thoughts import ToTDFS
from tests.support.search_lab import Script, Searched, priced, rows, run, table

# Monte Carlo tree search, c = 1

GAME: Script = {
    "": [("a", 0.6), ("b", 0.5)],
    "a": [("c", 0.2), ("d", 0.4)],
    "b": [("e", 0.9), ("=1", 0.8)],
    "b e": [("=2", 0.3), ("=1", 0.1)],
    "a d": [("=2", 0.6), ("f", 0.1)],
    "a c": [("=3", 0.2), ("=2", 0.5)],
}


def totals(searched: Searched, wanted: dict[str, tuple[int, float]]) -> None:
    """Check visits and sums of values, by path."""
    found = {name: (node.visits, node.total) for name, node in searched.nodes.items()}
    assert found.keys() == wanted.keys()
    for name, (visits, total) in wanted.items():
        assert found[name] == (visits, pytest.approx(total)), name
    assert [node.visits for node in searched.result.tree.nodes] == [n.visits for n in searched.watched.state[0].nodes]


def test_mcts_by_uct_by_hand() -> None:
    """Six simulations, one at a time. Worth of a child: W / N + sqrt(ln N_parent / N).

    sim  root (N, W)  a                             b                             goes to
    1    0, 0                                                                     the prompt: a .6, b .5
    2    2, 1.1       .6 + sqrt(ln 2) = 1.433       .5 + .833 = 1.333             a: c .2, d .4
    3    4, 1.7       .4 + sqrt(ln 4 / 3) = 1.080   .5 + sqrt(ln 4) = 1.677       b: e .9, =1 .8
    4    6, 3.4       .4 + sqrt(ln 6 / 3) = 1.173   .733 + .773 = 1.506           b e (=1 has ended): =2 .3, =1 .1
    5    8, 3.8       the only one that goes on     all of it has ended           a d (.4 against .2): =2 .6, f .1
    6    10, 4.5      N 5: in it, c .2 + sqrt(ln 5) = 1.469, d .367 + sqrt(ln 5 / 3) = 1.099: a c: =3 .2, =2 .5
    """
    searched = run(MCTS(6, exploration=1, parallel=1, value="verifier"), GAME)
    assert searched.order == ["", "a", "b", "b e", "a d", "a c"]
    assert table(searched.result.tree) == rows("""
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
    totals(searched, {
        "": (12, 5.2), "a": (7, 2.6), "b": (5, 2.6), "a c": (3, 0.9), "a d": (3, 1.1), "b e": (3, 1.3),
        "b =1": (1, 0.8), "b e =2": (1, 0.3), "b e =1": (1, 0.1), "a d =2": (1, 0.6), "a d f": (1, 0.1),
        "a c =3": (1, 0.2), "a c =2": (1, 0.5),
    })  # fmt: skip
    assert searched.nodes["b e"].mean == pytest.approx(1.3 / 3)
    assert searched.result.votes == pytest.approx({"2": 1.4, "1": 0.9, "3": 0.2})
    assert searched.result.answer == "2"


WIDE: Script = {
    "": [("a", 0.6), ("b", 0.5), ("x", 0.4)],
    "a": [("c", 0.2), ("d", 0.4), ("h", 0.3)],
    "b": [("e", 0.3), ("g", 0.1), ("i", 0.2)],
    "x": [("j", 0.1), ("k", 0.1), ("l", 0.1)],
    "a d": [("=1", 0.5), ("=2", 0.3), ("=3", 0.1)],
    "b e": [("=1", 0.2), ("=2", 0.2), ("=3", 0.2)],
}


def test_mcts_in_parallel_by_hand() -> None:
    """Three simulations at a time, three steps each; one under way is a visit worth 0 from its leaf up.

    1     the prompt: a .6, b .5, x .4; until it is done there is no leaf.
    2-4   a (worth most), b (a is under way), x.
    5     a is done (c .2, d .4, h .3); b and x are under way: a d.
    6     b is done (e .3, g .1, i .2), x and d are under way: 9 + 2 visits of the root.
          a: 1.5 / (4 + 1) + sqrt(ln 11 / 5) = .992   b: 1.1 / 4 + sqrt(ln 11 / 4) = 1.049 -> b e (.3)
          (without the two under way: 1.5 / 4 + sqrt(ln 9 / 4) = 1.116 against 1.1 / 4 + .741 = 1.016 -> a)
    """
    searched = run(MCTS(6, width=3, exploration=1, parallel=3, value="verifier"), WIDE)
    assert searched.order == ["", "a", "b", "x", "a d", "b e"]
    found = {name: (node.visits, node.total) for name, node in searched.nodes.items()}
    for name, visits, total in (
        ("", 18, 4.8), ("a", 7, 2.4), ("b", 7, 1.7), ("x", 4, 0.7), ("a d", 4, 1.3), ("b e", 4, 0.9), ("a h", 1, 0.3),
    ):  # fmt: skip
        assert found[name] == (visits, pytest.approx(total)), name
    assert not any(node.in_flight for node in searched.nodes.values())
    assert searched.result.votes == pytest.approx({"1": 0.7, "2": 0.5, "3": 0.3})
    one = run(MCTS(6, width=3, exploration=1, parallel=1, value="verifier"), WIDE)
    # 3: ln 6: a .375 + sqrt(ln 6 / 4) = 1.044, b .5 + sqrt(ln 6) = 1.839. 4: x. 5: ln 12: a .375 + .788, b .275 + .788.
    # 6: a N 7, W 2.4: .343 + sqrt(ln 15 / 7) = .965, b .275 + sqrt(ln 15 / 4) = 1.098.
    assert one.order == ["", "a", "b", "x", "a d", "b e"]


CHANCES: Script = {  # with the probability of each step's tokens
    "": [("a", 0.6, 0.2), ("b", 0.5, 0.8)],
    "a": [("c", 0.2, 0.1), ("d", 0.1, 0.3)],
    "b": [("e", 0.9, 0.5), ("=1", 0.8, 0.5)],
    "b e": [("=2", 0.3), ("=1", 0.1)],
    "a d": [("=2", 0.7), ("f", 0.1)],
}


def test_mcts_by_puct_by_hand() -> None:
    """Five simulations. Worth of a child: W / N + P sqrt(N_parent) / (1 + N); P is .2 for a, .8 for b, 1/4 c, 3/4 d.

    sim  root (N, W)  a                               b                                   goes to
    2    2, 1.1       .6 + .2 sqrt(2) / 2 = .741      .5 + .8 sqrt(2) / 2 = 1.066         b: e .9, =1 .8
    3    4, 2.8       .6 + .2 * 2 / 2 = .8            2.2 / 3 + .8 * 2 / 4 = 1.133        b e: =2 .3, =1 .1
    4    6, 3.2       .6 + .2 sqrt(6) / 2             has been visited whole              a: c .2, d .1
    5    8, 3.5       in it (N 3): c .2 + sqrt(3) / 8 = .417, d .1 + 3 sqrt(3) / 8 = .750 a d: =2 .7, f .1
    """
    searched = run(MCTS(5, rule="puct", exploration=1, parallel=1, value="verifier"), CHANCES)
    assert searched.order == ["", "b", "b e", "a", "a d"]
    totals(searched, {
        "": (10, 4.3), "a": (5, 1.7), "b": (5, 2.6), "b e": (3, 1.3), "a c": (1, 0.2), "a d": (3, 0.9),
        "b =1": (1, 0.8), "b e =2": (1, 0.3), "b e =1": (1, 0.1), "a d =2": (1, 0.7), "a d f": (1, 0.1),
    })  # fmt: skip
    assert searched.result.votes == pytest.approx({"2": 1.0, "1": 0.9})


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
    """WIDE again, in which .4 of the chances are a's, .4 b's and .2 x's, and steps further down have the same.

    6     x and a d are under way; a: 1.5 / 5 + .4 sqrt(11) / 6 = .521, b: 1.1 / 4 + .4 sqrt(11) / 5 = .540
          (without the two: .375 + .4 * 3 / 5 = .615 against .275 + .4 * 3 / 5 = .515)
    """
    script: Script = {**WIDE, "": [("a", 0.6, 0.4), ("b", 0.5, 0.4), ("x", 0.4, 0.2)]}
    searched = run(MCTS(6, width=3, rule="puct", exploration=1, parallel=3, value="verifier"), script)
    assert searched.order == ["", "a", "b", "x", "a d", "b e"]


# Tree of thoughts, depth first

DEEP: Script = {
    "": [("a", 0.5), ("b", 0.8)],
    "b": [("c", 0.2), ("d", 0.4)],
    "b d": [("e", 0.1), ("=1", 0.2)],
    "a": [("f", 0.6), ("g", 0.7)],
    "a g": [("=2", 0.9), ("=3", 0.35)],
    "a f": [("=2", 0.5), ("h", 0.2)],
}


def test_tot_dfs_by_hand() -> None:
    """Below .3 a state is given up: c, e and h are; from b and d there is no way on, so it goes back to a."""
    searched = run(ToTDFS(10, width=2, threshold=0.3, value="verifier"), DEEP)
    assert searched.order == ["", "b", "b d", "a", "a g"]  # =1 at .2 is no answer to stop at, =2 at .9 is
    assert table(searched.result.tree) == rows("""
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
    assert searched.result.answer == "2"
    assert searched.result.tallies["best"].votes == pytest.approx({"2": 0.9, "3": 0.35, "1": 0.2})


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
def test_tot_dfs_ends_where_it_is_told_to(strategy: ToTDFS, order: list[str], answer: str | None) -> None:
    searched = run(strategy, DEEP)
    assert (searched.order, searched.result.answer) == (order, answer)


def test_tot_dfs_looks_into_the_first_of_equals_first() -> None:
    script: Script = {"": [("a", 0.5), ("b", 0.5)], "a": [("=1", 0.5), ("=2", 0.5)], "b": [("=3", 0.5), ("=3", 0.5)]}
    assert run(ToTDFS(4, width=2, value="verifier"), script).order == ["", "a"]


# Best-first search

CLIMB: Script = {
    "": [("a", 0.5), ("b", 0.8)],
    "b": [("c", 0.3), ("d", 0.6)],
    "b d": [("=1", 0.4), ("e", 0.2)],
    "a": [("f", 0.35), ("=2", 0.45)],
}


def test_greedy_best_first_by_hand() -> None:
    """Frontier: a .5, b .8 | a .5, c .3, d .6 | a .5, c .3, =1 .4, e .2 | c .3, =1 .4, e .2, f .35, =2 .45 is taken."""
    searched = run(BestFirst(9, width=2, value="verifier"), CLIMB)
    assert searched.order == ["", "b", "b d", "a"]
    assert table(searched.result.tree) == rows("""
        1 <0 a 0.5 open
        2 <0 b 0.8 open
        3 <2 c 0.3 open
        4 <2 d 0.6 open
        5 <4 =1 0.4 ended
        6 <4 e 0.2 open
        7 <1 f 0.35 open
        8 <1 =2 0.45 ended
    """)
    assert searched.result.answer == "2"


# A*: the verifier says minus what is still to pay at least; a step's third number is what it costs, in nats

MAP: Script = {
    "": [("s", -4.0, 1.0), ("t", -1.0, 2.0)],
    "t": [("=1", 0.0, 5.0), ("u", -3.0, 1.0)],
    "s": [("=2", 0.0, 4.5), ("v", -2.0, 3.0)],
}


def test_a_star_by_hand() -> None:
    """f = cost so far + at least to come: s 1 + 4, t 2 + 1 | t: =1 7, u 3 + 3 | s: =2 5.5, v 4 + 2 | =2 is taken.

    =1 was found first, and is as good to the verifier: but it costs 7, not 5.5.
    """
    searched = run(BestFirst(9, width=2, cost="nats", value="verifier"), priced(MAP))
    assert searched.order == ["", "t", "s"]
    assert searched.result.answer == "2"
    greedy = run(BestFirst(9, width=2, value="verifier"), priced(MAP))
    assert (greedy.order, greedy.result.answer) == (["", "t"], "1")
    heavy = run(BestFirst(9, width=2, weight=3, cost="nats", value="verifier"), priced(MAP))
    assert (heavy.order, heavy.result.answer) == (["", "t"], "1")  # 3 h: s 13, t 5, =1 7, u 12


@pytest.mark.parametrize(("parallel", "order"), [(1, ["", "a", "b"]), (2, ["", "a", "b", "a c"])])
def test_a_star_by_steps_takes_the_shortest_path(parallel: int, order: list[str]) -> None:
    """One step costs 1. a and b: 1 + 1; then c: 2 + 1, while =2 is there after 2. Two at a time begin c early."""
    script: Script = {
        "": [("a", -1.0), ("b", -1.0)],
        "a": [("c", -1.0), ("d", -3.0)],
        "a c": [("=1", 0.0), ("=1", 0.0)],
        "b": [("=2", 0.0), ("=2", 0.0)],
    }
    searched = run(BestFirst(9, width=2, cost="steps", parallel=parallel, value="verifier"), script)
    assert (searched.order, searched.result.answer) == (order, "2")


def test_a_star_in_parallel_waits_for_what_may_be_cheaper() -> None:
    """t (3) and s (5) are expanded together; =1 (7) is known first, and waits for s: v is 1.5 + 3, =2 5.5."""
    script: Script = {
        "": [("s", -4.0, 1.0), ("t", -1.0, 2.0)],
        "t": [("=1", 0.0, 5.0), ("=3", 0.0, 6.0)],
        "s": [("v", -3.0, 0.5), ("=3", 0.0, 7.0)],
        "s v": [("=2", 0.0, 4.0), ("=3", 0.0, 6.0)],
    }
    searched = run(BestFirst(9, width=2, cost="nats", parallel=3, value="verifier"), priced(script))
    assert (searched.order, searched.result.answer) == (["", "t", "s", "s v"], "2")
