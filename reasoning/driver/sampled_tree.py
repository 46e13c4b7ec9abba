"""The finished branches of a question as a tree: what several have in common is there once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from branchwise.core.path import Path
from branchwise.core.result import Branch
from branchwise.core.tree import NodeState, Tree, TreeNode


class _Cut(NamedTuple):
    """A place in a path; characters tell places apart where a backend shows no tokens."""

    tokens: int
    """Generated tokens before it."""
    chars: int
    """Characters of the path's whole text before it."""


@dataclass(slots=True)
class _Grown:
    """A branch, and what of it is a node of its own."""

    branch: Branch
    text: str
    """The whole text of its path."""
    start: _Cut
    end: _Cut
    parent: int | None
    """The branch whose own part it continues; None at a prompt."""
    cuts: set[_Cut]
    """Where others continue it."""


@dataclass(slots=True)
class _Part:
    """A node in the making."""

    parent: int | None
    text: str = ""
    tokens: int = 0
    branch: Branch | None = None
    """The one that ends here."""
    visits: int = 0


def sampled_tree(branches: Sequence[Branch], prompt: Path | None) -> Tree:
    """A node for each branch, or several where others continue its first part.

    The first node is that of `prompt`; other prompts that branches grew from follow. A node's visits are the branches
    that run through it, and its cost is that of the branch that ends there.
    """
    parts = [_Part(None)]
    roots: dict[Path | None, int] = {prompt: 0}
    places: dict[tuple[int, _Cut], int] = {}  # the node at whose end a branch is cut
    for number, grown in _grow(branches).items():
        if grown.parent is None:
            root = grown.branch.path.root
            if root not in roots:
                roots[root] = len(parts)
                parts.append(_Part(None))
            above = roots[root]
        else:
            above = places[grown.parent, grown.start]
        for part, cut in _split(grown):
            part.parent = above
            above = places[number, cut] = len(parts)
            parts.append(part)
        parts[above].branch = grown.branch
        parts[above].visits = 1
    for part in reversed(parts):  # children come after their parents
        if part.parent is not None:
            parts[part.parent].visits += part.visits
    return Tree(tuple(_node(number, part) for number, part in enumerate(parts)))


def _grow(branches: Sequence[Branch]) -> Mapping[int, _Grown]:
    """The branches by number, each with the one whose own part it continues."""
    grown: dict[int, _Grown] = {}
    for branch in branches:
        text = branch.path.whole_text
        start = _Cut(branch.prefix_tokens, branch.prefix_chars)
        parent = None if branch.parent is None else grown.get(branch.parent)
        while parent is not None and start <= parent.start:  # it continues no more than its parent itself continues
            parent = None if parent.parent is None else grown[parent.parent]
        if parent is not None and start <= parent.end and text.startswith(parent.text[: start.chars]):
            parent.cuts.add(start)
        else:
            parent, start = None, _Cut(0, len(branch.path.opening))
        end = _Cut(branch.path.generated, len(text))
        grown[branch.number] = _Grown(branch, text, start, end, None if parent is None else parent.branch.number, set())
    return grown


def _split(grown: _Grown) -> Sequence[tuple[_Part, _Cut]]:
    """The parts of a branch, and where they end. What its stop trimmed is there where another went on from it."""
    parts, start = [], grown.start
    for cut in sorted({*grown.cuts, grown.end}):
        text = grown.text if cut in grown.cuts else grown.branch.path.answer_text
        parts.append((_Part(None, text[start.chars : cut.chars], cut.tokens - start.tokens), cut))
        start = cut
    return parts


def _node(number: int, part: _Part) -> TreeNode:
    node = TreeNode(number, part.parent, part.text, part.tokens, visits=part.visits)
    if (branch := part.branch) is None:
        return node
    answer = None if branch.answer is None else branch.answer.value
    return replace(node, answer=answer, state=NodeState.ENDED, cost=branch.cost)
