"""An expansion: children of a node that are being sampled and valued.

A step generator (steps.py) sends its requests and adds its children; a valuer (values.py) values them.
"""

from collections.abc import Callable
from functools import partial

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.usage import Usage
from branchwise.search.node import Node
from branchwise.search.state import Handler, SearchState
from branchwise.search.values import Valuer
from branchwise.strategies.actions import Event, Request


class Expansion:
    """The running expansion of a node. `on_done` is called once, when every child is valued or has failed."""

    def __init__(self, state: SearchState, node: Node, valuer: Valuer, on_done: Callable[["Expansion"], None]) -> None:
        self.state = state
        self.node = node
        self.children: list[Node] = []
        self._valuer = valuer
        self._on_done = on_done
        self._open = 0  # requested branches and running valuations
        state.running += 1

    def send(self, action: Request, handler: Handler, branches: int = 1) -> None:
        """Send a request on the way to a child; `handler` is called once for each of its branches."""
        self._open += branches
        self.state.send(action, partial(self._handle, handler))

    def add_child(self, path: Path, *, ended: bool, answer: Answer | None, cost: Usage) -> None:
        """Add a child and start valuing it."""
        child = self.state.add_node(self.node, path, ended=ended, answer=answer, cost=cost)
        self.children.append(child)
        self._open += 1
        self._valuer.start(self.state, child, self._close_one)

    def _handle(self, handler: Handler, event: Event) -> None:
        handler(event)
        self._close_one()

    def _close_one(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.state.running -= 1
            self._on_done(self)
