"""Particle filtering, worked out by hand. The odds s / (1 - s) are 2 for a score of 2/3, 1 for 1/2, about 0 for 0."""

import math
from bisect import bisect
from itertools import accumulate

import pytest

from branchwise.core.keys import choose
from branchwise.search import ParticleFilter
from tests.support.search_scripts import Script, rows, run, table

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
    """Four evenly spaced points hit a share of 2/4 twice and one of 1/4 once, for any offset.

    Level 1: odds 2, 1, 1, 0: a twice, b, c.  Level 2: =1, e, f, g have 1, 1, 0, 2: =1 stays, e, g twice.
    Level 3: =1, =2, =3, =1 have 1, 2, 0, 1: the first =1, =2 twice, the last =1. All have ended.
    """
    result, recorder = run(ParticleFilter(4, systematic=True, value="verifier"), PARTICLES, seed=seed)
    assert recorder.expansions == [("", 4), ("a", 2), ("b", 1), ("c", 1), ("a e", 1), ("c g", 2)]
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
    assert result.votes == pytest.approx({"2": 4 / 3, "1": 1.0})  # twice 2/3; no particle is at =3
    assert result.answer == "2"
    assert result.tallies["plain"].votes == {"1": 2, "2": 2}


def test_particles_vote_at_the_node_they_moved_to() -> None:
    """After two resamplings =1 and e have one particle each, g has two. Then e moves to =2, and g to =3 and =1."""
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
    """Odds of 10^12 to 1 attract all particles, also those of a path that has ended."""
    result, recorder = run(ParticleFilter(3, value="verifier"), CERTAIN)
    assert recorder.expansions == [("", 3), ("a", 3), ("a d", 3)]
    assert [node.state for node in result.tree.nodes[1:]] == [
        "open",
        "pruned",
        "pruned",
        "ended",
        "open",
        "pruned",
        "ended",
        "ended",
        "ended",
    ]
    assert result.votes == pytest.approx({"2": 2.7})


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_multinomial_resampling_depends_on_the_prompts_key(temperature: float) -> None:
    """300 independent choices with odds 3, 1, 1/3, or their square roots at temperature 2, by inverse transform."""
    script: Script = {
        "": [("a", 3 / 4), ("b", 1 / 2), ("c", 1 / 4)],
        "a": [("=1", 1.0)],
        "b": [("=2", 1.0)],
        "c": [("=3", 1.0)],
    }
    _, recorder = run(ParticleFilter(300, temperature=temperature, value="verifier", max_steps=2), script)
    key = recorder.state[0].root.key
    points = [choose(key, "resample 1", ordinal, 1 << 53) / (1 << 53) for ordinal in range(300)]
    weights = [odds ** (1 / temperature) for odds in (3, 1, 1 / 3)]
    bounds = list(accumulate(weights * 100))
    chosen = [bisect(bounds, point * bounds[-1]) for point in points]
    names = ["a", "b", "c"] * 100
    assert recorder.expansions == [("", 300)] + [(names[place], chosen.count(place)) for place in sorted(set(chosen))]
    # The odds of a count six standard deviations from its expectation are one in 10^8.
    for name, weight in zip("abc", weights, strict=True):
        share = weight / sum(weights)
        count = sum(names[place] == name for place in chosen)
        assert abs(count - 300 * share) < 6 * math.sqrt(300 * share * (1 - share))


@pytest.mark.parametrize("seed", range(8))
def test_systematic_resampling_uses_one_random_number(seed: int) -> None:
    """Of odds 3, 2, 3 the second has the quarter from 3/8 to 5/8, which holds exactly one of four points 1/4 apart.

    With one random number for each quarter it would hold one point in half of all cases.
    """
    script: Script = {
        "": [("a", 3 / 4), ("b", 2 / 3), ("c", 3 / 4), ("d", 0.0)],
        "a": [("=1", 1.0)],
        "b": [("=2", 1.0)],
        "c": [("=3", 1.0)],
    }
    assert ("b", 1) in run(ParticleFilter(4, systematic=True, value="verifier"), script, seed=seed).recorder.expansions
