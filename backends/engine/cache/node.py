"""Nodes of the radix tree, positions in it, and the cursors that pin them."""

from array import array
from typing import NamedTuple

from branchwise.backends.engine.cache.snapshots import Snapshot


class RadixNode:
    """Consecutive cached tokens between two forks of the tree."""

    __slots__ = ("children", "cursors", "has_hidden", "last_used", "parent", "slots", "snapshots", "start", "tokens")

    def __init__(self, parent: "RadixNode | None", start: int) -> None:
        self.parent = parent
        self.start = start  # position of the node's first token, counted from the root
        self.tokens = array("q")  # [length]
        self.slots = array("q")  # [length]
        self.has_hidden = bytearray()  # [length] true where the KV pool stores the output head's input
        self.children: dict[int, RadixNode] = {}  # by their first token
        self.cursors: set[Cursor] = set()
        self.snapshots: dict[int, Snapshot] = {}  # recurrent state by the number of this node's tokens before it
        self.last_used = 0  # tick of the tree's clock at the last match or insertion

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pinned(self) -> int:
        """Number of leading tokens that a cursor or a child needs; the tokens after them may be evicted."""
        return len(self) if self.children else max((cursor.offset for cursor in self.cursors), default=0)


class TreePosition(NamedTuple):
    """A position in the tree: after the first `offset` tokens of `node`."""

    node: RadixNode
    offset: int

    @property
    def depth(self) -> int:
        """Number of tokens from the root to this position."""
        return self.node.start + self.offset


class Cursor:
    """A movable pin: the tokens from the root to its position are never evicted."""

    __slots__ = ("node", "offset")

    def __init__(self, node: RadixNode, offset: int) -> None:
        self.node = node
        self.offset = offset

    @property
    def position(self) -> TreePosition:
        return TreePosition(self.node, self.offset)

    @property
    def depth(self) -> int:
        """Number of tokens from the root to the cursor."""
        return self.node.start + self.offset

    def prefix_nodes(self) -> list[TreePosition]:
        """Return the nodes from the root to the cursor, each with the number of its tokens on the path."""
        nodes, node, offset = [], self.node, self.offset
        while (parent := node.parent) is not None:
            nodes.append(TreePosition(node, offset))
            node, offset = parent, len(parent)
        nodes.reverse()
        return nodes
