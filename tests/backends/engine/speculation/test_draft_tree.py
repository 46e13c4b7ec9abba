"""Draft trees built from matches, and subsets of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node
from branchwise.backends.engine.speculation.draft_tree import expand
from tests.support.drafts import index_of_sequences


def test_the_most_frequent_continuation_comes_first() -> None:
    index = index_of_sequences([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6], [9, 2, 7])
    draft = Draft()
    expand(draft, index.matches([0, 1, 2], 8)[:1], budget=4, max_depth=3, drafter="d")
    assert [(node.parent, node.token, node.match_length, node.occurrences) for node in draft.nodes] == [
        (ROOT, 3, 2, 3),
        (ROOT, 6, 2, 3),
        (0, 5, 3, 2),  # of two that are as frequent, the most recent one
        (0, 4, 3, 2),
    ]
    assert [node.probability for node in draft.nodes] == pytest.approx([2 / 3, 1 / 3, 0.5, 0.5])


def test_continuations_of_shorter_matches_come_last() -> None:
    index = index_of_sequences([1, 2, 3], [9, 2, 7], [9, 2, 7], [9, 2, 3])
    draft = Draft()
    expand(draft, index.matches([1, 2], 8), budget=8, max_depth=1, drafter="d")
    assert [(node.token, node.match_length, node.occurrences) for node in draft.nodes] == [(3, 2, 1), (7, 1, 4)]


def test_a_draft_is_no_deeper_than_its_limit() -> None:
    index = index_of_sequences(list(range(20)))
    draft = Draft()
    expand(draft, index.matches([1, 2], 8), budget=100, max_depth=5, drafter="d")
    assert draft.tokens == [3, 4, 5, 6, 7]


@given(st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 2)), max_size=12), st.sets(st.integers(0, 11)))
def test_a_subset_keeps_the_chosen_nodes_below_chosen_ones(nodes: list[tuple[int, int]], chosen: set[int]) -> None:
    draft = Draft()
    for parent, token in nodes:
        draft.add(Node(min(parent, len(draft) - 1), token, 1.0, 2, 1, "d"))
    subset = draft.subset(chosen)

    def paths(tree: Draft, among: set[int]) -> set[tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {ROOT: ()}
        for place, node in enumerate(tree.nodes):
            if place in among and node.parent in found:
                found[place] = (*found[node.parent], node.token)
        return set(found.values())

    assert paths(subset, set(range(len(subset)))) == paths(draft, chosen)
