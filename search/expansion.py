"""An expansion: children of a node that are being drawn and valued."""

from collections.abc import Callable
from functools import partial

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.usage import Usage
from branchwise.search.node import Node
from branchwise.search.search import Search
from branchwise.search.thoughts import Thoughts
from branchwise.search.values import Valuer
from branchwise.strategies.actions import Event, Request


class Expansion:
    """`count` children of a node. `then` is called once, when each is valued or has failed."""

    def __init__(
        self, search: Search, node: Node, thoughts: Thoughts, valuer: Valuer, then: Callable[["Expansion"], None]
    ) -> None:
        self.search, self.node = search, node
        self.children: list[Node] = []
        self._thoughts, self._valuer, self._then = thoughts, valuer, then
        self._left = 0  # requests and valuations under way

    def start(self, count: int) -> None:
        """Ask for the children."""
        self.search.running += 1
        self._thoughts.begin(self, count)

    def send(self, action: Request, handler: Callable[[Event], None], branches: int = 1) -> None:
        """Ask for something on the way to a child; `handler` is called for each of its branches."""
        self._left += branches
        self.search.send(action, partial(self._hear, handler))

    def add(self, path: Path, *, ended: bool, answer: Answer | None, cost: Usage) -> None:
        """A child was found: have it valued."""
        node = self.search.add(self.node, path, ended=ended, answer=answer, cost=cost)
        self.children.append(node)
        self._left += 1
        self._valuer.begin(self.search, node, self._settle)

    def _hear(self, handler: Callable[[Event], None], event: Event) -> None:
        handler(event)
        self._settle()

    def _settle(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.search.running -= 1
            self._then(self)
