"""The tree of reasoning: every step or path that was grown from a question, and what it grew from."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue, TypeAdapter, ValidationError

from branchwise.core.errors import ConfigError, require
from branchwise.core.usage import Usage

if TYPE_CHECKING:
    import networkx

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHARED = {"seconds", "forward_passes"}
"""Of a cost: they depend on whatever else ran, and would differ in every replay."""


class NodeState(StrEnum):
    """What became of a node."""

    OPEN = "open"  # a path may go on, or went on, from here
    ENDED = "ended"  # a path ends here
    FAILED = "failed"  # it could not be grown or judged
    PRUNED = "pruned"  # the strategy gave it up


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One step of a path, or the whole of it where a strategy knows no steps; a root is a prompt."""

    number: int
    """Its place in `Tree.nodes`."""
    parent: int | None
    """The node it goes on from; None for a prompt."""
    text: str
    """Its own text; "" for a prompt."""
    tokens: int
    """Its own generated tokens."""
    answer: str | None = None
    """What the path that ends here answers, in the form that counts votes; None where none ends or it states none."""
    value: float | None = None
    """What the verifier or the valuation makes of it."""
    visits: int = 0
    """How often the search, or how many paths, came through it."""
    state: NodeState = NodeState.OPEN
    cost: Usage = field(default_factory=Usage)
    """What it cost by itself; what it took to value it is not among it."""
    note: str = ""
    """A word to a person: why it failed, say."""


_ADAPTER: list[TypeAdapter[tuple[TreeNode, ...]]] = []  # built when it is needed: that takes longer than importing


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes, parents before children; `nodes[0]` is the question's prompt.

    Raises ConfigError where a node isn't in its place or comes before its parent.
    """

    nodes: tuple[TreeNode, ...] = (TreeNode(0, None, "", 0),)
    _children: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(bool(self.nodes), "tree", "has no nodes", "give the prompt at least")
        require(self.nodes[0].parent is None, "tree", "begins with no prompt", "give node 0 no parent")
        children: list[list[int]] = [[] for _ in self.nodes]
        for place, node in enumerate(self.nodes):
            require(node.number == place, "tree", f"holds node {node.number} at place {place}", "number them in order")
            if node.parent is not None:
                known = 0 <= node.parent < place
                require(known, "tree", f"node {place} comes before its parent {node.parent}", "put parents first")
                children[node.parent].append(place)
        object.__setattr__(self, "_children", tuple(map(tuple, children)))

    @property
    def roots(self) -> tuple[int, ...]:
        """The prompts: the question's own, and those that a strategy wrote."""
        return tuple(node.number for node in self.nodes if node.parent is None)

    def children(self, number: int) -> tuple[int, ...]:
        """The nodes that go on from this one, in the order in which they were grown."""
        return self._children[number]

    def path(self, number: int) -> tuple[int, ...]:
        """The nodes from the prompt to this one."""
        chain = [number]
        while (parent := self.nodes[chain[-1]].parent) is not None:
            chain.append(parent)
        return tuple(reversed(chain))

    def best_path(self, answer: str | None = None) -> tuple[int, ...]:
        """From the prompt to the ended node of highest value; then of most visits; then the first.

        With an `answer`, among those that state it. Empty where there is none. A node without a value is
        below every one with a value.
        """
        ended = (node for node in self.nodes if node.state is NodeState.ENDED)
        able = [node for node in ended if answer is None or node.answer == answer]
        if not able:
            return ()
        return self.path(max(able, key=_rank).number)

    def graph(self) -> "networkx.DiGraph":
        """The tree for networkx, with attributes that any of its formats can hold.

        Nodes have `text`, `tokens`, `visits` and `state`; `answer`, `value` and `note` where there is one; and what is
        not 0 of their cost, as `cost_sampled` and so on. What XML can't hold of a text is written as U+FFFD.
        """
        import networkx

        graph = networkx.DiGraph()
        for node in self.nodes:
            graph.add_node(node.number, **_attributes(node))
        graph.add_edges_from((node.parent, node.number) for node in self.nodes if node.parent is not None)
        return graph

    def graphml(self) -> str:
        """The graph as a GraphML document; `networkx.parse_graphml(..., node_type=int)` reads it."""
        import networkx

        return "\n".join(networkx.generate_graphml(self.graph())) + "\n"

    def record(self) -> list[JsonValue]:
        """The nodes as JSON data, without what is None or empty, and without seconds and passes of costs."""
        return [_record(node) for node in self.nodes]

    @classmethod
    def from_record(cls, record: Sequence[JsonValue]) -> "Tree":
        """The tree that was recorded. Raises ConfigError."""
        if not _ADAPTER:
            _ADAPTER.append(TypeAdapter(tuple[TreeNode, ...]))
        try:
            return cls(_ADAPTER[0].validate_python(record))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ConfigError("tree", f"{place}: {first['msg']}", "record it with Tree.record") from error


def _finite(value: float | None) -> float | None:
    """A value that JSON can hold."""
    return value if value is not None and math.isfinite(value) else None


def _rank(node: TreeNode) -> tuple[float, int, int]:
    value = _finite(node.value)
    return (-math.inf if value is None else value, node.visits, -node.number)


def _attributes(node: TreeNode) -> dict[str, str | int | float]:
    """A node's attributes in a graph."""
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
