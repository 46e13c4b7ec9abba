"""A trie of the texts of a question's recorded paths: text that several paths begin with appears once.

Paths are merged by their text alone, also when they were sampled independently. The tree in a `Result` differs: its
nodes are the branches and their parents, cut at token boundaries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from branchwise.evaluation.answered import Answered, AnsweredPath

_MIN_SHARED_CHARS = 12  # paths with a shorter common prefix stay apart


@dataclass(slots=True)
class PathEnd:
    """The end of a path."""

    path: AnsweredPath
    right: bool
    """True if its answer is correct."""


@dataclass(slots=True)
class TrieNode:
    """A piece of text and the pieces that continue it."""

    text: str
    children: list["TrieNode"] = field(default_factory=list)
    ends: list[PathEnd] = field(default_factory=list)
    """Paths that end with this text."""

    @property
    def paths(self) -> int:
        """Number of paths that contain this text."""
        return len(self.ends) + sum(child.paths for child in self.children)


def build_trie(answered: Answered) -> TrieNode:
    """Return the root of the trie; its text is empty."""
    ends = [PathEnd(path, right) for path, right in zip(answered.paths, answered.right, strict=True)]
    return _build("", [(end.path.text, end) for end in ends])


def _build(text: str, suffixes: Sequence[tuple[str, PathEnd]]) -> TrieNode:
    """Return a node with the given text, above the remaining texts [(suffix, end of the path)]."""
    node = TrieNode(text)
    groups: dict[str, list[tuple[str, PathEnd]]] = {}
    for suffix, end in suffixes:
        if suffix:
            groups.setdefault(suffix[:_MIN_SHARED_CHARS], []).append((suffix, end))
        else:
            node.ends.append(end)
    for members in groups.values():
        prefix = _common_prefix([suffix for suffix, _ in members])
        node.children.append(_build(prefix, [(suffix[len(prefix) :], end) for suffix, end in members]))
    return node


def _common_prefix(texts: Sequence[str]) -> str:
    """Return the longest common prefix: that of the first and the last text in sorted order."""
    first, last = min(texts), max(texts)
    length = next((index for index, char in enumerate(first) if last[index] != char), len(first))
    return first[:length]
