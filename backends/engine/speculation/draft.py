"""A draft: a tree of proposed tokens. Drafters add nodes, the draft budget selects some, the verifier follows them."""

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
    probability: float  # the drafter's estimate that the token follows its parent
    match_length: int  # tokens before it that the drafter found together in its source
    occurrences: int  # how often it found them
    drafter: str


@dataclass(slots=True)
class Draft:
    """Proposed tokens; every node comes after its parent."""

    nodes: list[Node] = field(default_factory=list)
    distributions: dict[int, Tensor] = field(default_factory=dict)
    """[vocabulary] the distribution a node was sampled from, for rejection sampling; a node without was certain."""
    _node_of: dict[tuple[int, int], int] = field(default_factory=dict)  # by parent and token
    _first_child: dict[int, int] = field(default_factory=dict)  # by parent

    def __len__(self) -> int:
        return len(self.nodes)

    def child(self, node: int, token: int) -> int | None:
        """Return the child of `node` that proposes `token`."""
        return self._node_of.get((node, token))

    def children(self, node: int) -> list[int]:
        """Return the children of `node`, in the order of proposal."""
        return [place for place, proposed in enumerate(self.nodes) if proposed.parent == node]

    def first_child(self, node: int) -> int | None:
        """Return the child of `node` that was proposed first: drafters propose the most probable one first."""
        return self._first_child.get(node)

    def add(self, node: Node) -> int:
        """Add a node unless its parent has one with the same token. Return the node's index."""
        place = self._node_of.setdefault((node.parent, node.token), len(self.nodes))
        if place == len(self.nodes):
            self.nodes.append(node)
            self._first_child.setdefault(node.parent, place)
        return place

    def subset(self, chosen: Collection[int]) -> "Draft":
        """Return a draft of the chosen nodes, without those whose parent is not chosen."""
        draft, places = Draft(), {ROOT: ROOT}
        for place, node in enumerate(self.nodes):
            if place in chosen and node.parent in places:
                places[place] = draft.add(node._replace(parent=places[node.parent]))
                if place in self.distributions:
                    draft.distributions[places[place]] = self.distributions[place]
        return draft

    def first_chain(self) -> "Draft":
        """Return a draft of the first child of the root, its first child, and so on."""
        chosen, node = set[int](), self.first_child(ROOT)
        while node is not None:
            chosen.add(node)
            node = self.first_child(node)
        return self.subset(chosen)

    @property
    def parent_rows(self) -> list[int]:
        """[1 + nodes] the row of each row's parent. Row 0 is the path's last token, whose parent is -1."""
        return [-1, *(1 + node.parent for node in self.nodes)]

    @property
    def tokens(self) -> list[int]:
        return [node.token for node in self.nodes]
