"""The trie of path texts."""

from collections.abc import Sequence

from branchwise.evaluation.report.text_trie import TrieNode, build_trie
from tests.support.evaluations import make_answered


def trie(texts: Sequence[str]) -> TrieNode:
    answered = make_answered(texts=tuple(texts))
    return build_trie(answered.paths, answered.right)


def texts(node: TrieNode) -> list[str]:
    """Return the texts of a node and its descendants, depth first."""
    return [node.text, *(text for child in node.children for text in texts(child))]


def test_a_common_prefix_is_one_node() -> None:
    start = "Let us begin here. "
    root = trie((f"{start}Then left.", f"{start}Then right turn.", "Elsewhere entirely.", f"{start}Then left."))
    assert texts(root) == ["", start + "Then ", "left.", "right turn.", "Elsewhere entirely."]
    assert root.paths == 4
    shared, other = root.children
    assert (shared.paths, other.paths) == (3, 1)
    assert [end.path.branch for end in shared.children[0].ends] == [0, 3]
    assert other.ends[0].path.branch == 2


def test_a_short_common_prefix_is_not_shared() -> None:
    assert texts(trie(("To go left", "To go right"))) == ["", "To go left", "To go right"]
    assert texts(trie(("", "To go"))) == ["", "To go"]
    assert texts(trie(("To go", "To go on", "To go"))) == ["", "To go", "To go on"]
    twelve = "Twelve chars"
    assert texts(trie((twelve, f"{twelve}!", f"{twelve}?"))) == ["", twelve, "!", "?"]
    assert texts(trie((twelve[:-1], twelve))) == ["", twelve[:-1], twelve]


def test_paths_nest_deeper_than_the_recursion_limit() -> None:
    steps = [f"Step {step} is taken with care. " for step in range(2000)]
    paths = ["".join(steps[: step + 1]) for step in range(2000)]
    node, seen = trie(paths[::-1]), []
    while node.children:
        (node,) = node.children
        seen.append((node.text, node.paths, [end.path.branch for end in node.ends]))
    assert seen == [(step, 2000 - place, [1999 - place]) for place, step in enumerate(steps)]
