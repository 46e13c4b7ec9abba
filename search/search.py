"""One question's search: its tree, and the requests that are under way for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from branchwise.core.answer import Answer
from branchwise.core.errors import BudgetError
from branchwise.core.path import Path
from branchwise.core.usage import Usage
from branchwise.core.votes import count
from branchwise.search.node import Node
from branchwise.strategies.actions import Action, Event, Extend, Failed, Finished, Progress, Request
from branchwise.strategies.samples import Samples

Handler = Callable[[Event], None]
"""Takes in what came of a request."""


@dataclass(slots=True)
class _Open:
    """A request under way."""

    handler: Handler
    branches: int  # that have not ended
    heard: set[int | None] = field(default_factory=set)


@dataclass(slots=True)
class Search(Samples):
    """The tree of one question, and what is under way for it.

    Events of requests that are not under way are left alone: they were told before, or are another run's.
    """

    question: int = 0
    """Its place among the run's questions."""
    nodes: list[Node] = field(default_factory=list)
    outbox: list[Action] = field(default_factory=list)
    """Actions that were not handed out yet."""
    running: int = 0
    """Expansions under way."""
    promised: int = 0
    """Nodes that were asked for."""
    spent: bool = False
    """Whether the budget pays for no more branches."""
    over: bool = False
    """Whether nothing more is to be expanded."""
    rollouts: list[Node] = field(default_factory=list)
    """Paths that were grown to their ends to value a node; they are in no tree, and numbered downwards from -1."""
    _open: dict[Request, _Open] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes.append(Node(0, None, self.root))

    @property
    def prompt(self) -> Node:
        """The root of the tree."""
        return self.nodes[0]

    def shares(self) -> Mapping[Answer, float]:
        """What share of all paths' answers each is, those of paths that were grown to value a node included."""
        answers = count(node.answer for node in (*self.nodes, *self.rollouts))
        total = sum(answers.values())
        return {answer: votes / total for answer, votes in answers.items()}

    def add(self, parent: Node, path: Path, *, ended: bool, answer: Answer | None, cost: Usage) -> Node:
        """A new child of a node."""
        node = Node(len(self.nodes), parent, path, ended, answer if ended else None, cost=cost)
        self.nodes.append(node)
        parent.children.append(node)
        return node

    def roll_out(self, node: Node, path: Path, answer: Answer | None) -> Node:
        """A path that was grown from a node to its end, as a node outside of the tree."""
        self.rollouts.append(Node(-1 - len(self.rollouts), node, path, ended=True, answer=answer))
        return self.rollouts[-1]

    def send(self, action: Request, handler: Handler) -> None:
        """Ask for something; `handler` is called with every event it is answered by."""
        branches = action.count if isinstance(action, Extend) else 1
        self.asked += branches
        self._open[action] = _Open(handler, branches)
        self.outbox.append(action)

    def hear(self, event: Event) -> None:
        """Hand an event to whoever waits for it."""
        if isinstance(event, Progress) or (request := self._open.get(event.action)) is None:
            return
        branch = event.branch if isinstance(event, Finished | Failed) else None
        if branch in request.heard:
            return
        request.heard.add(branch)
        request.branches -= 1
        if request.branches == 0:
            del self._open[event.action]
        if isinstance(event, Failed) and (isinstance(event.error, BudgetError) or event.error is None):
            self.spent = True
        request.handler(event)
