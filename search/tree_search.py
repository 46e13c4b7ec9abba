"""The base of strategies that search over the steps of a path."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Generic, Literal, TypeVar, get_args

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import count, leader, weigh
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node, freeze
from branchwise.search.search import Search
from branchwise.search.thoughts import PROPOSE, ProposedSteps, SampledSteps, Step, Thoughts
from branchwise.search.values import ValueName, valuer
from branchwise.strategies.actions import Action, Event, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import Decision, Tally

SearchT = TypeVar("SearchT", bound=Search)
Over = Literal["last", "min", "product", "mean"]

_REDUCE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "product": prod,
    "mean": lambda values: sum(values) / len(values),
}
_STEPS = ("line", "paragraph", "sentence", "numbered", "path")


@dataclass(frozen=True, slots=True)
class TreeSearch(PerQuestion[SearchT], Generic[SearchT]):
    """Grows a tree of steps, values its nodes, and concludes from the paths that came to their ends.

    The tree is in `Decision.tree`. A node that can't be drawn or valued costs the search that node alone; where no
    node at all can be valued, all are worth the same, and the result says so.
    """

    paths: int = 16
    """How wide the search is: the strategy says of what."""
    value: ValueName = "p-true"
    """What a node is worth: the probability that the model calls it correct (p-true), its rating of where it leads
    (rating), the geometric mean of its tokens' probabilities (logprob), how far paths grown from it agree with others
    (rollouts), or what the run's verifier says (verifier)."""
    final: ValueName | None = None
    """What an ended path is worth, a rollout's included, where that is something else: an exact checker knows nothing
    of unfinished ones."""
    over: Over = "last"
    """How the values of a path's steps make its score."""
    rollouts: int = 2
    """Paths grown from a node to value it, with value=rollouts."""
    step: Step = "line"
    """Where a step ends: line, paragraph, sentence, numbered, path (the whole of it), or a number of tokens."""
    propose: bool = False
    """Whether next steps are lines of a list the model is asked for, instead of drawn."""
    proposal: str = PROPOSE
    """How it is asked for them."""
    choose: Literal["weighted", "best", "vote"] = "weighted"
    """Which answer wins: the one with most score in all, that of the best path, or that of most paths. Scores below 0
    weigh nothing."""
    max_steps: int = 40
    """Most steps of a path."""
    nodes: int | None = None
    """Most nodes of the tree, its prompt not counted."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw tokens; `max_tokens` is a whole path's limit."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        known = isinstance(self.step, int) or self.step in _STEPS
        require(known, "step", f"is {self.step!r}", f"use one of {', '.join(_STEPS)}, or a number of tokens")
        require(not isinstance(self.step, int) or self.step >= 1, "step", f"is {self.step}", "use at least 1 token")
        values, choices = get_args(ValueName), ("weighted", "best", "vote")
        require(self.value in values, "value", f"is {self.value!r}", f"use one of {', '.join(values)}")
        final = self.final is None or self.final in values
        require(final, "final", f"is {self.final!r}", f"use one of {', '.join(values)}, or None")
        require(self.choose in choices, "choose", f"is {self.choose!r}", f"use one of {', '.join(choices)}")
        require(self.over in _REDUCE, "over", f"is {self.over!r}", f"use one of {', '.join(_REDUCE)}")
        require(self.rollouts >= 1, "rollouts", f"is {self.rollouts}", "use at least 1")
        require(self.max_steps >= 1, "max_steps", f"is {self.max_steps}", "use at least 1")
        require(self.nodes is None or self.nodes >= 1, "nodes", f"is {self.nodes}", "use at least 1, or None")

    @abstractmethod
    def advance(self, search: SearchT) -> None:
        """Start the expansions that are due. Called after every event, and at the start."""

    def expanded(self, search: SearchT, expansion: Expansion) -> None:
        """An expansion is over: its children are valued or have failed."""

    def start(self, roots: Sequence[Path]) -> list[SearchT]:
        searches = [self.begin(root) for root in roots]
        for question, search in enumerate(searches):
            search.question = question
        return searches

    def more(self, samples: SearchT) -> Sequence[Action]:
        if not samples.over:
            self.advance(samples)
        actions, samples.outbox = samples.outbox, []
        return actions

    def take(self, samples: SearchT, event: Event) -> None:
        samples.hear(event)

    def expand(self, search: SearchT, node: Node, count: int) -> Expansion | None:
        """Start an expansion of a node by `count` children, as far as budget and nodes allow; None where they don't."""
        if self.nodes is not None:
            count = min(count, self.nodes - search.promised)
        if count < 1 or search.spent:
            search.over = True
            return None
        search.promised += count
        values = valuer(self.value, self.sampling, self.rollouts, self.final)
        expansion = Expansion(search, node, self._thoughts(), values, lambda done: self.expanded(search, done))
        expansion.start(count)
        return expansion

    def _thoughts(self) -> Thoughts:
        if self.propose:
            return ProposedSteps(self.sampling, self.proposal)
        return SampledSteps(self.step, self.sampling)

    def score(self, node: Node) -> float:
        """What a path is worth by the values of its steps; those without one don't count."""
        values = [one.value for one in node.line() if one.value is not None]
        return _REDUCE[self.over](values[::-1]) if values else 0.0

    def promise(self, node: Node) -> float:
        """What the best of several nodes has most of."""
        return self.score(node)

    def meets(self, search: SearchT, node: Node, threshold: float) -> bool:
        """Whether a node is worth at least `threshold`; each is where none was ever valued."""
        return not _any_valued(search) or (not node.failed and self.score(node) >= threshold)

    def able(self, search: SearchT, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that are still in the search; all of them where none was ever valued."""
        valued = [node for node in nodes if not node.failed]
        return valued or ([] if _any_valued(search) else list(nodes))

    def candidates(self, search: SearchT) -> Sequence[Node]:
        """The ended nodes that have a say, one as often as it has."""
        return [node for node in search.nodes if node.ended]

    def _counted(self, search: SearchT, blind: bool) -> list[tuple[Answer, Node]]:
        """Answers and their nodes: of those that have a say, or of all that ended where none of them states one."""
        for nodes in (self.candidates(search), TreeSearch.candidates(self, search)):
            able = [
                (node.answer, node) for node in nodes if node.answer is not None and (blind or node.value is not None)
            ]
            if able:
                return able
        return []

    def _grown(self, search: SearchT) -> list[tuple[Answer, float]]:
        """Answers of rollouts, and what each is worth: what `final` says, or its share of all answers."""
        ends = [(path.answer, path.value) for path in search.rollouts if path.answer is not None]
        if self.final is None:
            shares = search.shares()
            return [(answer, shares[answer]) for answer, _ in ends]
        return [(answer, value) for answer, value in ends if value is not None]

    def standing(self, state: list[SearchT], question: int) -> Decision:
        return self.conclude(state[question])  # whoever watches sees no tree: it is not drawn anew after every branch

    def decide(self, samples: SearchT) -> Decision:
        return replace(self.conclude(samples), tree=freeze(samples.nodes))

    def conclude(self, samples: SearchT) -> Decision:
        """The best answer so far, without the tree."""
        blind = len(samples.nodes) > 1 and not _any_valued(samples)
        counted, grown = self._counted(samples, blind), self._grown(samples)
        scored = [(answer, self.score(node)) for answer, node in counted] + grown
        plain = count(answer for answer, _ in scored)
        best: dict[Answer, float] = {}
        for answer, promise in [*((answer, self.promise(node)) for answer, node in counted), *grown]:
            best[answer] = max(promise, best.get(answer, promise))
        tallies = {"plain": Tally(plain, None), "best": Tally(best, None)}
        if blind:
            why = f"{self.name}: nothing could be valued, so the majority answered"
            return Decision(leader(plain), None, plain, degraded=() if samples.running else (why,))
        if self.choose == "weighted":
            weighted = weigh((answer, max(0.0, score)) for answer, score in scored)
            return Decision(leader(weighted), None, weighted, tallies)
        return Decision(leader(best if self.choose == "best" else plain), None, plain, tallies)


def _any_valued(search: Search) -> bool:
    return any(node.value is not None for node in search.nodes)
