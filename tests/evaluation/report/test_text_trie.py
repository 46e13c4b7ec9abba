"""The trie of path texts."""

from branchwise.evaluation.report.text_trie import TrieNode, build_trie
from tests.support.evaluations import make_answered


def texts(node: TrieNode) -> list[str]:
    """Return the texts of a node and its descendants, depth first."""
    return [node.text, *(text for child in node.children for text in texts(child))]


def test_a_common_prefix_is_one_node() -> None:
    start = "Let us begin here. "
    one = make_answered(
        texts=(f"{start}Then left.", f"{start}Then right turn.", "Elsewhere entirely.", f"{start}Then left.")
    )
    trie = build_trie(one)
    assert texts(trie) == ["", start + "Then ", "left.", "right turn.", "Elsewhere entirely."]
    assert trie.paths == 4
    shared, other = trie.children
    assert [end.path.branch for end in shared.children[0].ends] == [0, 3]
    assert other.ends[0].path.branch == 2


def test_a_short_common_prefix_is_not_shared() -> None:
    assert texts(build_trie(make_answered(texts=("To go left", "To go right")))) == ["", "To go left", "To go right"]
    assert texts(build_trie(make_answered(texts=("", "To go")))) == ["", "To go"]
