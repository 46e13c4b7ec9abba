"""Monte Carlo tree search over steps."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node
from branchwise.search.search import Search
from branchwise.search.tree_search import TreeSearch
from branchwise.search.values import ValueName


@dataclass(slots=True)
class Simulations(Search):
    """A search, and how many simulations it has begun."""

    begun: int = 0


@dataclass(frozen=True, slots=True)
class MCTS(TreeSearch[Simulations]):
    """`paths` simulations: walk down to a leaf, expand it by `width` steps, back each one's value up to the root.

    UCT: Q + c sqrt(ln N_parent / N) (Kocsis & Szepesvari 2006). PUCT: Q + c P sqrt(N_parent) / (1 + N), where P is a
    step's share of its siblings' mean token probabilities (Silver et al. 2017). Simulations under way count as
    visits worth 0, so that parallel ones spread. What has been visited whole is not walked into again.
    """

    name: ClassVar[str] = "mcts"

    paths: int = 16
    """Simulations: leaves that are expanded."""
    value: ValueName = "rollouts"
    rollouts: int = 1
    width: int = 2
    """Steps a leaf is expanded by."""
    rule: Literal["uct", "puct"] = "uct"
    """How a child is chosen on the way down."""
    exploration: float = math.sqrt(2)
    """c: how much uncertainty is worth."""
    parallel: int = 4
    """Simulations under way at a time."""

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        require(self.width >= 1, "width", f"is {self.width}", "use at least 1")
        require(self.rule in ("uct", "puct"), "rule", f"is {self.rule!r}", "use uct or puct")
        require(self.exploration >= 0, "exploration", f"is {self.exploration}", "use 0 or more")
        require(self.parallel >= 1, "parallel", f"is {self.parallel}", "use at least 1")

    def begin(self, root: Path) -> Simulations:
        return Simulations(root)

    def advance(self, search: Simulations) -> None:
        while search.running < self.parallel and search.begun < self.paths and not search.over:
            leaf = self._leaf(search.prompt)
            if leaf is None:
                break
            search.begun += 1
            if self.expand(search, leaf, self.width) is not None:
                for node in leaf.up():
                    node.in_flight += 1
        if not search.running:
            search.over = True

    def expanded(self, search: Simulations, expansion: Expansion) -> None:
        for node in expansion.node.up():
            node.in_flight -= 1
        for child in self.able(search, expansion.children):
            child.back_up(self.score(child))
            child.closed = child.ended or child.depth >= self.max_steps
        for node in expansion.node.up():
            node.closed = all(child.closed or not child.visits for child in node.children)
            if not node.closed:
                break

    def _leaf(self, root: Node) -> Node | None:
        """The leaf a walk down comes to; None where every one is closed or being expanded."""
        if root.closed or (root.in_flight and not root.children):
            return None
        node = root
        while node.children:
            able = [child for child in node.children if self._walkable(child)]
            if not able:
                return None
            parent = node
            node = max(able, key=lambda child: self._worth(child, parent))
        return node

    def _walkable(self, node: Node) -> bool:
        """Whether there is a leaf at or below a node that nothing is under way for."""
        if node.closed or not node.visits:
            return False
        return any(map(self._walkable, node.children)) if node.children else not node.in_flight

    def _worth(self, child: Node, parent: Node) -> float:
        """What there is to gain by walking into a child."""
        above, visits = parent.visits + parent.in_flight, child.visits + child.in_flight
        mean = child.total / visits
        if self.rule == "uct":
            return mean + self.exploration * math.sqrt(math.log(above) / visits)
        return mean + self.exploration * _prior(child, parent) * math.sqrt(above) / (1 + visits)


def _prior(child: Node, parent: Node) -> float:
    """A step's share of its siblings' mean token probabilities; alike where a backend reports none."""
    chances = [_chance(one, parent) for one in parent.children]
    known = [chance for chance in chances if chance is not None]
    if len(known) < len(chances):
        return 1 / len(chances)
    return (_chance(child, parent) or 0.0) / (sum(known) or 1.0)


def _chance(child: Node, parent: Node) -> float | None:
    """The geometric mean of the probabilities of a step's own tokens."""
    logprobs = child.path.sampled_logprobs()
    own = logprobs[len(parent.path.sampled_logprobs() or ()) :] if logprobs else None
    return math.exp(sum(own) / len(own)) if own else None
