"""A draft: a tree of proposed tokens behind a path, and how it is built."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

ROOT = -1
"""The node that stands for the path's last token."""


class Node(NamedTuple):
    """A proposed token."""

    parent: int  # ROOT, or an earlier node
    token: int
    share: float  # its drafter's estimate of its chance, among what the drafter saw follow the parent
    match: int  # how many of the tokens before it the drafter had seen together
    seen: int  # how often
    drafter: str


@dataclass(slots=True)
class Draft:
    """Proposed tokens; every node comes after its parent."""

    nodes: list[Node] = field(default_factory=list)
    drawn_from: dict[int, Tensor] = field(default_factory=dict)
    """[vocabulary] what a node was drawn from, where rejection sampling must know; a node without is certain."""
    _places: dict[tuple[int, int], int] = field(default_factory=dict)
    _first: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.nodes)

    def child(self, node: int, token: int) -> int | None:
        """The node of `token` behind `node`."""
        return self._places.get((node, token))

    def children(self, node: int) -> list[int]:
        """The nodes behind `node`, as they were proposed."""
        return [place for place, proposed in enumerate(self.nodes) if proposed.parent == node]

    def likeliest(self, node: int) -> int | None:
        """The node behind `node` that was proposed first."""
        return self._first.get(node)

    def add(self, node: Node) -> int:
        """Propose a token, unless it is there already; its place."""
        place = self._places.setdefault((node.parent, node.token), len(self.nodes))
        if place == len(self.nodes):
            self.nodes.append(node)
            self._first.setdefault(node.parent, place)
        return place

    def kept(self, chosen: Collection[int]) -> "Draft":
        """The chosen nodes; one whose parent is not chosen goes with it."""
        draft, places = Draft(), {ROOT: ROOT}
        for place, node in enumerate(self.nodes):
            if place in chosen and node.parent in places:
                places[place] = draft.add(node._replace(parent=places[node.parent]))
                if place in self.drawn_from:
                    draft.drawn_from[places[place]] = self.drawn_from[place]
        return draft

    def chain(self) -> "Draft":
        """The likeliest node, the likeliest behind it, and so on."""
        chosen, node = set[int](), self.likeliest(ROOT)
        while node is not None:
            chosen.add(node)
            node = self.likeliest(node)
        return self.kept(chosen)

    @property
    def behind(self) -> list[int]:
        """[1 + nodes] the row each row follows, where the path's last token is row 0 and follows none."""
        return [-1, *(1 + node.parent for node in self.nodes)]

    @property
    def tokens(self) -> list[int]:
        return [node.token for node in self.nodes]
