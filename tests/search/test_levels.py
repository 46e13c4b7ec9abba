"""Searches that go level by level, each worked out by hand.

A table has a line for each node: its number, its parent's, its step, its value, and what became of it.
"""

import math
from bisect import bisect
from itertools import accumulate

import pytest

import branchwise as bw
from branchwise.core.keys import choose
from branchwise.search.beam import Beam
from branchwise.search.best_of_n import BestOfN
from branchwise.search.dvts import DVTS
from branchwise.search.level_search import Growth, Levels
from branchwise.search.node import Node
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.tree_of_thoughts import ToTBFS
from tests.support.search_lab import Script, rows, run, table

# Best-of-N

PATHS: Script = {"": [("a =1", 0.6), ("b =2", 0.5), ("c =2", 0.45), ("d =3", 0.1)]}


@pytest.mark.parametrize(
    ("choose", "answer", "confidence"),
    [
        # P(Beta(votes + 1, others' + 1) > 1/2) with plain votes 1: 1, 2: 2, 3: 1:
        ("best", "1", 5 / 16),  # Beta(2, 3): P(Bin(4, 1/2) <= 1)
        ("weighted", "2", 11 / 16),  # Beta(3, 2): P(Bin(4, 1/2) <= 2)
        ("vote", "2", 11 / 16),
    ],
)
def test_best_of_n_by_hand(choose: str, answer: str, confidence: float) -> None:
    strategy = BestOfN(4, value="verifier", choose=choose)  # type: ignore[arg-type]
    result, watched = run(strategy, PATHS)
    assert watched.asked == [("", 4)]
    assert table(result.tree) == rows("""
        1 <0 a =1 0.6 ended
        2 <0 b =2 0.5 ended
        3 <0 c =2 0.45 ended
        4 <0 d =3 0.1 ended
    """)
    assert (result.answer, result.confidence) == (answer, pytest.approx(confidence))
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
def test_a_paths_score_is_reduced_over_its_steps(over: str, scores: dict[str, float], answer: str) -> None:
    strategy = BestOfN(2, value="verifier", step="line", over=over)  # type: ignore[arg-type]
    result, watched = run(strategy, STEPS)
    assert watched.asked == [("", 2), ("a", 1), ("b", 1)]
    assert result.tallies["best"].votes == pytest.approx(scores)
    assert result.answer == answer


# Beam search

BEAM: Script = {
    "": [("a", 0.5), ("b", 0.8), ("c", 0.2), ("d", 0.6)],
    "b": [("e", 0.3), ("=1", 0.7)],
    "d": [("f", 0.9), ("g", 0.4)],
    "d f": [("=2", 0.95), ("=1", 0.35)],
    "d g": [("h", 0.1), ("=2", 0.2)],
}


@pytest.mark.parametrize(("choose", "answer"), [("weighted", "2"), ("best", "2"), ("vote", "1")])
def test_beam_by_hand(choose: str, answer: str) -> None:
    """Four paths, two ways each: two steps are kept of every level."""
    result, watched = run(Beam(4, width=2, value="verifier", choose=choose), BEAM)  # type: ignore[arg-type]
    assert watched.asked == [("", 4), ("b", 2), ("d", 2), ("d f", 2), ("d g", 2)]
    assert table(result.tree) == rows("""
        1 <0 a 0.5 pruned      # b .8 and d .6 are kept
        2 <0 b 0.8 open
        3 <0 c 0.2 pruned
        4 <0 d 0.6 open
        5 <2 e 0.3 pruned      # f .9 and g .4 are kept; =1 has left the beam
        6 <2 =1 0.7 ended
        7 <4 f 0.9 open
        8 <4 g 0.4 open
        9 <7 =2 0.95 ended     # with these, four have ended
        10 <7 =1 0.35 ended
        11 <8 h 0.1 pruned
        12 <8 =2 0.2 ended
    """)
    assert result.answer == answer  # by votes it is two to two, and 1 was there first
    weighted = {"2": 1.15, "1": 1.05}  # .95 + .2, .7 + .35
    assert result.votes == pytest.approx(weighted if choose == "weighted" else {"1": 2, "2": 2})
    assert result.tallies["best"].votes == pytest.approx({"2": 0.95, "1": 0.7})


def test_a_beam_can_rank_steps_by_their_whole_path() -> None:
    """By the product of its steps' values, "a c" is worth .5 * .9 = .45 and "b e" .8 * .6 = .48."""
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


# Diverse verifier tree search

FOREST: Script = {
    "": [("a", 0.7), ("b", 0.8), ("c", 0.2), ("d", 0.3)],
    "b": [("e", 0.3), ("=1", 0.7)],
    "d": [("f", 0.9), ("g", 0.4)],
    "d f": [("=2", 0.6), ("h", 0.65)],
    "d f h": [("=1", 0.5), ("=3", 0.4)],
}


def test_dvts_by_hand() -> None:
    """Two subtrees of two: a beam would have kept a and b; here the second subtree keeps its own best."""
    result, watched = run(DVTS(4, width=2, value="verifier"), FOREST)
    assert watched.asked == [("", 2), ("", 2), ("b", 2), ("d", 2), ("d f", 2), ("d f h", 2)]
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


# REBASE

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
    """At this temperature, a value a tenth higher earns twice as many children.

    Level 1: weights 1, 1/2, 1/4, 1/4, 1/8, 1/8 (sum 9/4) of 6: 2.67, 1.33, .67, .67, .33, .33 -> 3, 1, 1, 1, 0, 0.
    Level 2: two have ended: 4 are shared; g, h, i, j: 1, 1/4, 1/2, 1/8 (sum 15/8): 2.13, .53, 1.07, .27 -> 2, 1, 1, 0.
    Level 3: six have ended.
    """
    result, watched = run(Rebase(6, temperature=0.1 / math.log(2), value="verifier"), SHARES)
    assert watched.asked == [
        ("", 6), ("a", 3), ("b", 1), ("c", 1), ("d", 1), ("a g", 2), ("a h", 1), ("b i", 1),
    ]  # fmt: skip
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


def test_rebase_goes_on_where_rounding_leaves_no_step_a_child() -> None:
    search = Levels(bw.Path(parent=None, key=1, token_ids=(1,), text=""))
    family = [Node(place, search.prompt, search.root, value=0.5) for place in range(1, 6)]
    search.nodes += family
    assert Rebase(2).select(search, [family]) == [Growth(family[0], 1), Growth(family[1], 1)]  # a share of .4 each


# Particle filtering: odds s / (1 - s) are 2 for a value of 2/3, 1 for 1/2, about 0 for 0

PARTICLES: Script = {
    "": [("a", 2 / 3), ("b", 0.5), ("c", 0.5), ("d", 0.0)],
    "a": [("=1", 0.5), ("e", 0.5)],
    "b": [("f", 0.0)],
    "c": [("g", 2 / 3)],
    "a e": [("=2", 2 / 3)],
    "c g": [("=3", 0.0), ("=1", 0.5)],
}


@pytest.mark.parametrize("seed", range(5))
def test_systematic_resampling_by_hand(seed: int) -> None:
    """Four evenly spaced points hit a share of 2/4 twice and one of 1/4 once, wherever they begin.

    Level 1: odds 2, 1, 1, 0: a twice, b, c.  Level 2: =1, e, f, g have 1, 1, 0, 2: =1 stays, e, g twice.
    Level 3: =1, =2, =3, =1 have 1, 2, 0, 1: the first =1, =2 twice, the last =1. All have ended.
    """
    result, watched = run(ParticleFilter(4, systematic=True, value="verifier"), PARTICLES, seed=seed)
    assert watched.asked == [("", 4), ("a", 2), ("b", 1), ("c", 1), ("a e", 1), ("c g", 2)]
    assert table(result.tree) == rows("""
        1 <0 a 0.666667 open
        2 <0 b 0.5 open
        3 <0 c 0.5 open
        4 <0 d 0 pruned
        5 <1 =1 0.5 ended
        6 <1 e 0.5 open
        7 <2 f 0 pruned
        8 <3 g 0.666667 open
        9 <6 =2 0.666667 ended
        10 <8 =3 0 ended
        11 <8 =1 0.5 ended
    """)
    assert result.votes == pytest.approx({"2": 4 / 3, "1": 1.0})  # twice 2/3; no particle is left of =3
    assert result.answer == "2"
    assert result.tallies["plain"].votes == {"1": 2, "2": 2}


def test_particles_that_took_a_step_since_are_where_it_led() -> None:
    """After two resamplings =1 is one particle, e one, g two; e has led to =2, g to =3 and =1, and there it ends."""
    strategy = ParticleFilter(4, systematic=True, value="verifier", max_steps=3)
    result = run(strategy, PARTICLES).result
    assert result.tallies["plain"].votes == {"1": 2, "2": 1, "3": 1}
    assert result.votes == pytest.approx({"1": 1.0, "2": 2 / 3, "3": 0.0})


CERTAIN: Script = {
    "": [("a", 1.0), ("b", 0.0), ("c", 0.0)],
    "a": [("=1", 0.0), ("d", 1.0), ("e", 0.0)],
    "a d": [("=2", 0.9)],
}


def test_multinomial_resampling_by_hand() -> None:
    """All particles go where the odds are a million to one squared; a path that ended can lose its place."""
    result, watched = run(ParticleFilter(3, value="verifier"), CERTAIN)
    assert watched.asked == [("", 3), ("a", 3), ("a d", 3)]
    assert [node.state for node in result.tree.nodes[1:]] == [
        "open", "pruned", "pruned", "ended", "open", "pruned", "ended", "ended", "ended",
    ]  # fmt: skip
    assert result.votes == pytest.approx({"2": 2.7})


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_multinomial_resampling_draws_by_the_prompts_key(temperature: float) -> None:
    """300 independent draws from odds 3, 1, 1/3, or their square roots at temperature 2, placed by inverting their
    distribution function."""
    script: Script = {
        "": [("a", 3 / 4), ("b", 1 / 2), ("c", 1 / 4)],
        "a": [("=1", 1.0)],
        "b": [("=2", 1.0)],
        "c": [("=3", 1.0)],
    }
    _, watched = run(ParticleFilter(300, temperature=temperature, value="verifier", max_steps=2), script)
    key = watched.state[0].root.key
    points = [choose(key, "resample 1", ordinal, 1 << 53) / (1 << 53) for ordinal in range(300)]
    weights = [odds ** (1 / temperature) for odds in (3, 1, 1 / 3)]
    bounds = list(accumulate(weights * 100))
    drawn = [bisect(bounds, point * bounds[-1]) for point in points]
    names = ["a", "b", "c"] * 100
    assert watched.asked == [("", 300)] + [(names[place], drawn.count(place)) for place in sorted(set(drawn))]
    # A count six standard deviations from what is expected has odds of one in 10^8.
    for name, weight in zip("abc", weights, strict=True):
        share = weight / sum(weights)
        count = sum(names[place] == name for place in drawn)
        assert abs(count - 300 * share) < 6 * math.sqrt(300 * share * (1 - share))


@pytest.mark.parametrize("seed", range(8))
def test_systematic_resampling_draws_once_for_all(seed: int) -> None:
    """Of odds 3, 2, 3 the second has a quarter, from 3/8 to 5/8: of four points a quarter apart, just one is there
    (of points drawn one by one in each quarter it would be one in half of all cases)."""
    script: Script = {
        "": [("a", 3 / 4), ("b", 2 / 3), ("c", 3 / 4), ("d", 0.0)],
        "a": [("=1", 1.0)],
        "b": [("=2", 1.0)],
        "c": [("=3", 1.0)],
    }
    assert ("b", 1) in run(ParticleFilter(4, systematic=True, value="verifier"), script, seed=seed).watched.asked


# Tree of thoughts, breadth first

THOUGHTS: Script = {
    "": [("a", 0.5), ("b", 0.9), ("c", 0.1), ("d", 0.6), ("e", 0.2), ("=1", 0.7)],
    "b": [("f", 0.8), ("g", 0.65), ("h", 0.3)],
    "b f": [("=2", 0.75), ("=3", 0.5), ("k", 0.6)],
}


def test_tot_bfs_by_hand() -> None:
    """Two states of six thoughts: b .9 and =1 .7; then f .8 and =1; then =2 .75 and =1, which have both ended."""
    result, watched = run(ToTBFS(6, keep=2, value="verifier"), THOUGHTS)
    assert watched.asked == [("", 6), ("b", 3), ("b f", 3)]
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


def test_tot_bfs_gives_up_states_below_the_threshold() -> None:
    result, watched = run(ToTBFS(6, keep=2, threshold=0.85, value="verifier"), THOUGHTS)
    assert watched.asked == [("", 6), ("b", 3)]  # of b's thoughts none is worth .85
    assert result.tree.nodes[7].state == "pruned"
    assert result.answer == "1"
