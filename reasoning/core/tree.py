"""The reasoning tree of a question. Strategies and the driver build it; traces and reports show it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue, TypeAdapter, ValidationError

from branchwise.core.errors import ConfigError, require
from branchwise.core.usage import Usage
from branchwise.core.validation import first_field_error

if TYPE_CHECKING:
    import networkx

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHARED = {"seconds", "forward_passes"}
"""Usage fields that depend on concurrent requests, so that a replay would not reproduce them."""


class NodeState(StrEnum):
    """State of a node."""

    OPEN = "open"  # paths continue, or may continue, from here
    ENDED = "ended"  # a path ends here
    FAILED = "failed"  # expansion or evaluation failed
    PRUNED = "pruned"  # the strategy will not expand it


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One step of a path, or a whole path if the strategy has no steps. A root is a prompt."""

    number: int
    """Index in `Tree.nodes`."""
    parent: int | None
    """Node that this one continues; None for a prompt."""
    text: str
    """Text of this node alone; "" for a prompt."""
    tokens: int
    """Generated tokens of this node alone."""
    answer: str | None = None
    """Canonical answer of the path that ends here; None if no path ends here or it states no answer."""
    value: float | None = None
    """Value assigned by a verifier or a value prompt."""
    visits: int = 0
    """Visits of the search, or the number of paths through this node."""
    state: NodeState = NodeState.OPEN
    cost: Usage = field(default_factory=Usage)
    """Usage of generating this node alone, without its evaluation."""
    note: str = ""
    """Remark for the reader, such as the reason for a failure."""


@cache
def _adapter() -> TypeAdapter[tuple[TreeNode, ...]]:
    """Build the validator on first use, because that takes longer than the import of this module."""
    return TypeAdapter(tuple[TreeNode, ...])


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes with parents before children; `nodes[0]` is the prompt of the question.

    Raises ConfigError if a node's number is not its index, or if it precedes its parent.
    """

    nodes: tuple[TreeNode, ...] = (TreeNode(0, None, "", 0),)
    _children: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(bool(self.nodes), "tree", "has no nodes", "give the prompt at least")
        require(self.nodes[0].parent is None, "tree", "begins with no prompt", "give node 0 no parent")
        children: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            require(node.number == index, "tree", f"holds node {node.number} at place {index}", "number them in order")
            if node.parent is not None:
                known = 0 <= node.parent < index
                require(known, "tree", f"node {index} comes before its parent {node.parent}", "put parents first")
                children[node.parent].append(index)
        object.__setattr__(self, "_children", tuple(map(tuple, children)))

    @property
    def roots(self) -> tuple[int, ...]:
        """Prompts: that of the question, and those that the strategy added."""
        return tuple(node.number for node in self.nodes if node.parent is None)

    def children(self, number: int) -> tuple[int, ...]:
        """Return the children of a node, in the order of their creation."""
        return self._children[number]

    def path(self, number: int) -> tuple[int, ...]:
        """Return the nodes from the prompt to this one."""
        chain = [number]
        while (parent := self.nodes[chain[-1]].parent) is not None:
            chain.append(parent)
        return tuple(reversed(chain))

    def best_path(self, answer: str | None = None) -> tuple[int, ...]:
        """Return the nodes from the prompt to the best ended node, or () if there is no candidate.

        The best node has the highest value; ties go to most visits, then to the first. A node without a value
        ranks below every node with one. With an `answer`, only nodes that state it are candidates.
        """
        ended = (node for node in self.nodes if node.state is NodeState.ENDED)
        candidates = [node for node in ended if answer is None or node.answer == answer]
        if not candidates:
            return ()
        return self.path(max(candidates, key=_rank).number)

    def graph(self) -> "networkx.DiGraph":
        """Return the tree as a networkx graph whose attributes fit all of its file formats.

        Nodes have `text`, `tokens`, `visits` and `state`; `answer`, `value` and `note` if set; and the nonzero
        fields of their cost, such as `cost_sampled`. Characters that XML does not allow are replaced by U+FFFD.
        """
        import networkx

        graph = networkx.DiGraph()
        for node in self.nodes:
            graph.add_node(node.number, **_attributes(node))
        graph.add_edges_from((node.parent, node.number) for node in self.nodes if node.parent is not None)
        return graph

    def graphml(self) -> str:
        """Return the graph as a GraphML document; `networkx.parse_graphml(..., node_type=int)` reads it."""
        import networkx

        return "\n".join(networkx.generate_graphml(self.graph())) + "\n"

    def record(self) -> list[JsonValue]:
        """Return the nodes as JSON data, without empty fields and without the seconds and passes of costs."""
        return [_record(node) for node in self.nodes]

    @classmethod
    def from_record(cls, record: Sequence[JsonValue]) -> "Tree":
        """Return the recorded tree. Raises ConfigError if the record is invalid."""
        try:
            return cls(_adapter().validate_python(record))
        except ValidationError as error:
            raise ConfigError("tree", str(first_field_error(error)), "record it with Tree.record") from error


def _finite(value: float | None) -> float | None:
    """Return the value, or None if JSON cannot represent it."""
    return value if value is not None and math.isfinite(value) else None


def _rank(node: TreeNode) -> tuple[float, int, int]:
    value = _finite(node.value)
    return (-math.inf if value is None else value, node.visits, -node.number)


def _attributes(node: TreeNode) -> dict[str, str | int | float]:
    """Return the attributes of a node in a networkx graph."""
    attributes: dict[str, str | int | float] = {
        "text": _NO_XML.sub("\ufffd", node.text),
        "tokens": node.tokens,
        "visits": node.visits,
        "state": node.state.value,
    }
    if node.answer is not None:
        attributes["answer"] = _NO_XML.sub("\ufffd", node.answer)
    if (value := _finite(node.value)) is not None:
        attributes["value"] = float(value)
    if node.note:
        attributes["note"] = _NO_XML.sub("\ufffd", node.note)
    cost = node.cost.model_dump(exclude={"drafters"}, exclude_defaults=True)
    return attributes | {f"cost_{name}": amount for name, amount in cost.items()}


def _record(node: TreeNode) -> JsonValue:
    record: dict[str, JsonValue] = {"number": node.number, "parent": node.parent, "text": node.text}
    record["tokens"] = node.tokens
    cost = node.cost.model_dump(mode="json", exclude=_SHARED, exclude_defaults=True)
    optional = {"answer": node.answer, "value": _finite(node.value), "visits": node.visits, "note": node.note}
    record |= {name: value for name, value in optional.items() if value not in (None, "")}
    record["state"] = node.state.value
    if cost:
        record["cost"] = cost
    return cast(JsonValue, record)
