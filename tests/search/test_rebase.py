"""REBASE, worked out by hand."""

import math

import pytest

import branchwise as bw
from branchwise.search import Rebase
from branchwise.search.levels import Branching, LevelState
from branchwise.search.node import Node
from tests.support.search_scripts import Script, rows, run, table

SHARES: Script = {
    "": [("a", 0.5), ("b", 0.4), ("c", 0.3), ("d", 0.3), ("e", 0.2), ("f", 0.2)],
    "a": [("=1", 0.6), ("g", 0.5), ("h", 0.3)],
    "b": [("i", 0.4)],
    "c": [("=2", 0.7)],
    "d": [("j", 0.2)],
    "a g": [("=2", 0.5), ("=3", 0.9)],
    "a h": [("=1", 0.1)],
    "b i": [("=2", 0.2)],
}


def test_rebase_by_hand() -> None:
    """At this temperature, a score that is .1 higher gets twice as many children.

    Level 1: weights 1, 1/2, 1/4, 1/4, 1/8, 1/8 (sum 9/4) of 6: 2.67, 1.33, .67, .67, .33, .33 -> 3, 1, 1, 1, 0, 0.
    Level 2: two have ended, so 4 are divided: 1, 1/4, 1/2, 1/8 (sum 15/8): 2.13, .53, 1.07, .27 -> 2, 1, 1, 0.
    Level 3: six have ended.
    """
    result, recorder = run(Rebase(6, temperature=0.1 / math.log(2), value="verifier"), SHARES)
    assert recorder.expansions == [
        ("", 6),
        ("a", 3),
        ("b", 1),
        ("c", 1),
        ("d", 1),
        ("a g", 2),
        ("a h", 1),
        ("b i", 1),
    ]
    assert table(result.tree) == rows("""
        1 <0 a 0.5 open
        2 <0 b 0.4 open
        3 <0 c 0.3 open
        4 <0 d 0.3 open
        5 <0 e 0.2 pruned
        6 <0 f 0.2 pruned
        7 <1 =1 0.6 ended
        8 <1 g 0.5 open
        9 <1 h 0.3 open
        10 <2 i 0.4 open
        11 <3 =2 0.7 ended
        12 <4 j 0.2 pruned
        13 <8 =2 0.5 ended
        14 <8 =3 0.9 ended
        15 <9 =1 0.1 ended
        16 <10 =2 0.2 ended
    """)
    assert result.votes == pytest.approx({"2": 1.4, "3": 0.9, "1": 0.7})
    assert result.answer == "2"
    assert run(Rebase(6, temperature=0.1 / math.log(2), value="verifier", choose="best"), SHARES).result.answer == "3"


def test_the_first_nodes_get_a_child_if_all_shares_round_to_0() -> None:
    state = LevelState(bw.Path(parent=None, key=1, token_ids=(1,), text=""))
    family = [Node(place, state.root_node, state.root, value=0.5) for place in range(1, 6)]
    state.nodes += family
    assert Rebase(2).next_level(state, [family]) == [
        Branching(family[0], 1),
        Branching(family[1], 1),
    ]  # a share of .4 each
