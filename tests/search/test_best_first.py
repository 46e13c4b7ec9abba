"""Best-first search and A*, worked out by hand."""

import pytest

from branchwise.search import BestFirst
from tests.support.search_scripts import Script, rows, run, table, with_costs

CLIMB: Script = {
    "": [("a", 0.5), ("b", 0.8)],
    "b": [("c", 0.3), ("d", 0.6)],
    "b d": [("=1", 0.4), ("e", 0.2)],
    "a": [("f", 0.35), ("=2", 0.45)],
}


def test_greedy_best_first_by_hand() -> None:
    """Frontiers: a .5, b .8 | a .5, c .3, d .6 | a .5, c .3, =1 .4, e .2 | c .3, =1 .4, e .2, f .35, =2 .45."""
    search = run(BestFirst(9, width=2, value="verifier"), CLIMB)
    assert search.order == ["", "b", "b d", "a"]
    assert table(search.result.tree) == rows("""
        1 <0 a 0.5 open
        2 <0 b 0.8 open
        3 <2 c 0.3 open
        4 <2 d 0.6 open
        5 <4 =1 0.4 ended
        6 <4 e 0.2 open
        7 <1 f 0.35 open
        8 <1 =2 0.45 ended
    """)
    assert search.result.answer == "2"


# A*: the verifier returns minus a lower bound of the remaining cost; the third number is a step's cost in nats

MAP: Script = {
    "": [("s", -4.0, 1.0), ("t", -1.0, 2.0)],
    "t": [("=1", 0.0, 5.0), ("u", -3.0, 1.0)],
    "s": [("=2", 0.0, 4.5), ("v", -2.0, 3.0)],
}


def test_a_star_by_hand() -> None:
    """f = cost + lower bound of the rest: s 1 + 4, t 2 + 1 | t: =1 7, u 3 + 3 | s: =2 5.5, v 4 + 2 | =2 is accepted.

    =1 was found first and has the same verifier score, but it costs 7 instead of 5.5.
    """
    search = run(BestFirst(9, width=2, cost="nats", value="verifier"), with_costs(MAP))
    assert search.order == ["", "t", "s"]
    assert search.result.answer == "2"
    greedy = run(BestFirst(9, width=2, value="verifier"), with_costs(MAP))
    assert (greedy.order, greedy.result.answer) == (["", "t"], "1")
    heavy = run(BestFirst(9, width=2, weight=3, cost="nats", value="verifier"), with_costs(MAP))
    assert (heavy.order, heavy.result.answer) == (["", "t"], "1")  # 3 h: s 13, t 5, =1 7, u 12


@pytest.mark.parametrize(("parallel", "order"), [(1, ["", "a", "b"]), (2, ["", "a", "b", "a c"])])
def test_a_star_by_steps_takes_the_shortest_path(parallel: int, order: list[str]) -> None:
    """One step costs 1. a and b: 1 + 1; then c: 2 + 1, and =2 costs 2. With two at a time, c is expanded before =2."""
    script: Script = {
        "": [("a", -1.0), ("b", -1.0)],
        "a": [("c", -1.0), ("d", -3.0)],
        "a c": [("=1", 0.0), ("=1", 0.0)],
        "b": [("=2", 0.0), ("=2", 0.0)],
    }
    search = run(BestFirst(9, width=2, cost="steps", parallel=parallel, value="verifier"), script)
    assert (search.order, search.result.answer) == (order, "2")


def test_a_star_in_parallel_waits_for_running_expansions() -> None:
    """t (3) and s (5) are expanded together. =1 (7) is found first and waits for s: v is 1.5 + 3, and =2 is 5.5."""
    script: Script = {
        "": [("s", -4.0, 1.0), ("t", -1.0, 2.0)],
        "t": [("=1", 0.0, 5.0), ("=3", 0.0, 6.0)],
        "s": [("v", -3.0, 0.5), ("=3", 0.0, 7.0)],
        "s v": [("=2", 0.0, 4.0), ("=3", 0.0, 6.0)],
    }
    search = run(BestFirst(9, width=2, cost="nats", parallel=3, value="verifier"), with_costs(script))
    assert (search.order, search.result.answer) == (["", "t", "s", "s v"], "2")
