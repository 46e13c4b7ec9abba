"""A trie of the texts of a question's recorded paths: text that several paths begin with appears once.

Paths are merged by their text alone, also when they were sampled independently. The tree in a `Result` differs: its
nodes are the branches and their parents, cut at token boundaries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from branchwise.evaluation.answered import AnsweredPath

_MIN_SHARED_CHARS = 12  # paths with a shorter common prefix stay apart


class PathEnd(NamedTuple):
    """The end of a path."""

    path: AnsweredPath
    right: bool
    """True if its answer is correct."""


@dataclass(slots=True)
class TrieNode:
    """A piece of text and the pieces that continue it."""

    text: str
    paths: int
    """Number of paths that contain this text."""
    children: list["TrieNode"] = field(default_factory=list)
    ends: list[PathEnd] = field(default_factory=list)
    """Paths that end with this text."""


class _Range(NamedTuple):
    """Paths below a node, as places in the sorted order."""

    node: TrieNode
    start: int
    stop: int
    depth: int
    """Characters from the root to the end of the node's text."""


def build_trie(paths: Sequence[AnsweredPath], right: Sequence[bool]) -> TrieNode:
    """Return the root of the trie; its text is empty. Iterative: paths may nest beyond the recursion limit."""
    ends = [PathEnd(path, correct) for path, correct in zip(paths, right, strict=True)]
    order = sorted(range(len(ends)), key=lambda place: ends[place].path.text)
    texts = [ends[place].path.text for place in order]
    shared = [0, *(_shared_chars(text, other) for text, other in pairwise(texts))]
    root = TrieNode("", len(ends))
    stack = [_Range(root, 0, len(ends), 0)]
    while stack:
        node, start, stop, depth = stack.pop()
        first_child = start
        while first_child < stop and len(texts[first_child]) == depth:
            first_child += 1
        node.ends = [ends[place] for place in order[start:first_child]]
        groups = list(_groups(texts, shared, first_child, stop, depth))
        for low, high in sorted(groups, key=lambda group: min(order[group[0] : group[1]])):
            end = min(shared[low + 1 : high], default=len(texts[low]))
            child = TrieNode(texts[low][depth:end], high - low)
            node.children.append(child)
            stack.append(_Range(child, low, high, end))
    return root


def _groups(
    texts: Sequence[str], shared: Sequence[int], start: int, stop: int, depth: int
) -> Iterator[tuple[int, int]]:
    """Yield the ranges of sorted texts that continue alike after `depth` characters.

    `shared`: characters that each text shares with the one before it, shape [texts].
    """
    low = start
    for place in range(start + 1, stop + 1):
        joined = place < stop and (shared[place] >= depth + _MIN_SHARED_CHARS or texts[place] == texts[place - 1])
        if not joined:
            yield low, place
            low = place


def _shared_chars(text: str, other: str) -> int:
    """Return the length of the longest common prefix, by bisection: faster than a loop over characters."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
