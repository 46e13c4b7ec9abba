"""Nodes of a search tree, and the frozen copy of the tree that a Decision reports."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.core.usage import Usage


@dataclass(slots=True, eq=False)
class Node:
    """A state of the reasoning: a prefix of a path, one step longer than its parent."""

    number: int
    """Index in the tree, in the order in which nodes were added."""
    parent: "Node | None"
    path: Path
    ended: bool = False
    """True if the path has ended and can't be continued."""
    answer: Answer | None = None
    """The answer of an ended path, if it states one."""
    stated: Answer | None = None
    """The answer that the path states so far, ended or not."""
    value: float | None = None
    """None before the node is valued, and if valuing it failed."""
    failure: str = ""
    """The reason why the node could not be valued; "" otherwise."""
    pruned: bool = False
    visits: int = 0
    value_sum: float = 0.0
    """Sum of the values backed up through the node."""
    in_flight: int = 0
    """Running expansions of the node and its descendants."""
    exhausted: bool = False
    """True if no node of the subtree can be expanded any more."""
    cost: Usage = field(default_factory=Usage)
    children: list["Node"] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Return the number of steps from the prompt."""
        return sum(1 for _ in self.steps())

    @property
    def mean(self) -> float:
        """Return Q, the mean of the values backed up through the node; 0 without a visit."""
        return self.value_sum / self.visits if self.visits else 0.0

    def lineage(self) -> Iterator["Node"]:
        """Yield the node and its ancestors, up to and including the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def steps(self) -> Iterator["Node"]:
        """Yield the node and its ancestors, the last step first, without the root."""
        return (node for node in self.lineage() if node.parent is not None)

    def backup(self, value: float) -> None:
        """Count a visit with `value` at the node and all its ancestors."""
        for node in self.lineage():
            node.visits += 1
            node.value_sum += value

    @property
    def text(self) -> str:
        """Return the node's own step, without the stop string that ended its path."""
        if self.parent is None:
            return ""
        text = self.path.answer_text if self.ended else self.path.whole_text
        return text[len(self.parent.path.whole_text) :]


def snapshot(nodes: list[Node]) -> Tree:
    """Return an immutable copy of the tree in its current state."""
    return Tree(tuple(map(_tree_node, nodes)))


def _tree_node(node: Node) -> TreeNode:
    parent_tokens = 0 if node.parent is None else node.parent.path.generated
    return TreeNode(
        number=node.number,
        parent=None if node.parent is None else node.parent.number,
        text=node.text,
        tokens=max(0, node.path.generated - parent_tokens),
        answer=None if node.answer is None else node.answer.value,
        value=node.value,
        visits=node.visits,
        state=_state(node),
        cost=node.cost,
        note=node.failure,
    )


def _state(node: Node) -> NodeState:
    if node.failure:
        return NodeState.FAILED
    if node.ended:
        return NodeState.ENDED
    return NodeState.PRUNED if node.pruned else NodeState.OPEN
