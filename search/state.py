"""The state of one question's search: its tree, and the handlers of its open requests."""

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
"""Called with every completion of a request."""


@dataclass(slots=True)
class _OpenRequest:
    """A request with branches that have not ended."""

    handler: Handler
    remaining: int
    """Branches that have not ended."""
    ended: set[int | None] = field(default_factory=set)
    """Numbers of the branches that have ended."""


@dataclass(slots=True)
class SearchState(Samples):
    """The tree of one question and its open requests.

    Events of unknown requests are ignored: they are repeated, or belong to another run.
    """

    question: int = 0
    """Index of the question in the run."""
    nodes: list[Node] = field(default_factory=list)
    outbox: list[Action] = field(default_factory=list)
    """Actions not returned to the driver yet."""
    running: int = 0
    """Running expansions."""
    requested_nodes: int = 0
    budget_spent: bool = False
    """True once the budget has refused a branch."""
    done: bool = False
    """True once no further node will be expanded."""
    completed: list[Node] = field(default_factory=list)
    """Nodes whose paths were sampled to their ends because the search had ended without an answer."""
    rollouts: list[Node] = field(default_factory=list)
    """Paths sampled to their end to value a node. They are not in the tree, and are numbered -1, -2, ..."""
    _open: dict[Request, _OpenRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes.append(Node(0, None, self.root))

    @property
    def root_node(self) -> Node:
        """Return the root of the tree: the prompt."""
        return self.nodes[0]

    def answer_shares(self) -> Mapping[Answer, float]:
        """Return the share of each answer among the answers of all ended nodes and rollouts."""
        answers = count(node.answer for node in (*self.nodes, *self.rollouts))
        total = sum(answers.values())
        return {answer: votes / total for answer, votes in answers.items()}

    def add_node(self, parent: Node, path: Path, *, ended: bool, answer: Answer | None, cost: Usage) -> Node:
        """Add and return a child of a node; `answer` is the one that its path states, ended or not."""
        node = Node(len(self.nodes), parent, path, ended, answer if ended else None, cost=cost)
        node.stated = answer
        self.nodes.append(node)
        parent.children.append(node)
        return node

    def add_rollout(self, node: Node, path: Path, answer: Answer | None) -> Node:
        """Add and return the ended path of a rollout from `node`, as a node outside of the tree."""
        self.rollouts.append(Node(-1 - len(self.rollouts), node, path, ended=True, answer=answer))
        return self.rollouts[-1]

    def send(self, action: Request, handler: Handler) -> None:
        """Queue a request; `handler` is called with each of its completions."""
        branches = action.count if isinstance(action, Extend) else 1
        self.requested += branches
        self._open[action] = _OpenRequest(handler, branches)
        self.outbox.append(action)

    def dispatch(self, event: Event) -> None:
        """Pass a completion to the handler of its request."""
        if isinstance(event, Progress) or (request := self._open.get(event.action)) is None:
            return
        branch = event.branch if isinstance(event, Finished | Failed) else None
        if branch in request.ended:
            return
        request.ended.add(branch)
        request.remaining -= 1
        if request.remaining == 0:
            del self._open[event.action]
        if isinstance(event, Failed) and (isinstance(event.error, BudgetError) or event.error is None):
            self.budget_spent = True
        request.handler(event)
