"""The paths of a question as a tree: what several have in common is there once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from branchwise.evaluation.answered import Answered, AnsweredPath

_LEAST_SHARED = 12  # characters; less in common is told with each path


@dataclass(slots=True)
class Leaf:
    """How a path ends."""

    path: AnsweredPath
    right: bool


@dataclass(slots=True)
class Segment:
    """A piece of text, and the pieces that go on from it."""

    text: str
    children: list["Segment"] = field(default_factory=list)
    ends: list[Leaf] = field(default_factory=list)

    @property
    def paths(self) -> int:
        """How many run through it."""
        return len(self.ends) + sum(child.paths for child in self.children)


def path_tree(one: Answered) -> Segment:
    """The tree of a question's paths; its root has no text of its own where they have nothing in common."""
    leaves = [Leaf(path, right) for path, right in zip(one.paths, one.right, strict=True)]
    return _grow("", [(leaf.path.text, leaf) for leaf in leaves])


def _grow(text: str, rest: Sequence[tuple[str, Leaf]]) -> Segment:
    """A segment and what comes behind it: [(text that is left, leaf)] in the order of the paths."""
    segment = Segment(text)
    groups: dict[str, list[tuple[str, Leaf]]] = {}
    for left, leaf in rest:
        if left:
            groups.setdefault(left[:_LEAST_SHARED], []).append((left, leaf))
        else:
            segment.ends.append(leaf)
    for members in groups.values():
        common = _common([left for left, _ in members])
        segment.children.append(_grow(common, [(left[len(common) :], leaf) for left, leaf in members]))
    return segment


def _common(texts: Sequence[str]) -> str:
    """Their longest common beginning."""
    first, last = min(texts), max(texts)
    length = next((place for place, char in enumerate(first) if last[place] != char), len(first))
    return first[:length]
