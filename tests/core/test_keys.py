"""Keys: pure functions of their arguments, distinct and uniform."""

from branchwise.core.keys import child_key, choose, cut_key, repeat_seed, root_key


def test_keys_are_pure_and_distinct() -> None:
    assert root_key(0, "q") == root_key(0, "q")
    keys = {root_key(0, "q"), root_key(1, "q"), root_key(0, "r"), child_key(1, 0), child_key(0, 1), cut_key(1, 0)}
    assert len(keys) == 6


def test_choose_is_uniform_over_keys() -> None:
    counts = [0] * 4
    for key in range(4000):
        counts[choose(key, "test", 0, 4)] += 1
    # Chi-square with 3 degrees of freedom: a value above 40 has a probability below 1e-8.
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 40


def test_repeats_of_a_prompt_have_distinct_seeds() -> None:
    seeds = [repeat_seed(7, repeat) for repeat in range(5)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 5
