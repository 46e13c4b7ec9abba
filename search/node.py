"""The tree that a search grows: nodes in the order in which they were found."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.core.usage import Usage


@dataclass(slots=True, eq=False)
class Node:
    """One state of the reasoning: a prefix of a path, a step longer than its parent's."""

    number: int
    """Its place in the tree, in the order in which nodes were found."""
    parent: "Node | None"
    path: Path
    ended: bool = False
    """Whether the path came to its end: it is not grown any more."""
    answer: Answer | None = None
    """What an ended path states."""
    value: float | None = None
    """What was made of it; None until then, and where that failed."""
    failed: str = ""
    """Why it is out of the search."""
    pruned: bool = False
    visits: int = 0
    total: float = 0.0
    """Sum of the values that were backed up through it."""
    in_flight: int = 0
    """Expansions under way at the node and below it."""
    closed: bool = False
    """Whether everything from here on has been visited."""
    cost: Usage = field(default_factory=Usage)
    children: list["Node"] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Steps from the prompt."""
        return sum(1 for _ in self.line())

    @property
    def mean(self) -> float:
        """Q: the mean of the values that were backed up; 0 without any."""
        return self.total / self.visits if self.visits else 0.0

    def up(self) -> Iterator["Node"]:
        """The node and those above it, the root included."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def line(self) -> Iterator["Node"]:
        """The node and those above it, up to the root's child."""
        return (node for node in self.up() if node.parent is not None)

    def back_up(self, value: float) -> None:
        """Count a visit worth `value` here and all the way up."""
        for node in self.up():
            node.visits += 1
            node.total += value

    @property
    def text(self) -> str:
        """Its own step, without a stop that ended its path."""
        if self.parent is None:
            return ""
        said = self.path.answer_text if self.ended else self.path.whole_text
        return said[len(self.parent.path.whole_text) :]


def freeze(nodes: list[Node]) -> Tree:
    """The tree as it is now, for whoever looks at it."""
    return Tree(tuple(map(_freeze, nodes)))


def _freeze(node: Node) -> TreeNode:
    above = 0 if node.parent is None else node.parent.path.generated
    return TreeNode(
        number=node.number,
        parent=None if node.parent is None else node.parent.number,
        text=node.text,
        tokens=max(0, node.path.generated - above),
        answer=None if node.answer is None else node.answer.value,
        value=node.value,
        visits=node.visits,
        state=_state(node),
        cost=node.cost,
        note=node.failed,
    )


def _state(node: Node) -> NodeState:
    if node.failed:
        return NodeState.FAILED
    if node.ended:
        return NodeState.ENDED
    return NodeState.PRUNED if node.pruned else NodeState.OPEN
