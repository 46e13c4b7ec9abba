"""Tree search: the base of strategies that search over the steps of a path.

It expands and values nodes and concludes from those that ended. An algorithm decides which nodes to expand.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar, get_args

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import count, leader, weigh
from branchwise.search.expansion import Expansion
from branchwise.search.node import Node, snapshot
from branchwise.search.state import SearchState
from branchwise.search.steps import PROPOSE, ProposedSteps, SampledSteps, Step, StepGenerator
from branchwise.search.values import ValueName, make_valuer
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Event, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import AnyStrategy, Decision, Tally
from branchwise.strategies.voting.self_consistency import SelfConsistency

StateT = TypeVar("StateT", bound=SearchState)
Over = Literal["last", "min", "product", "mean"]

_REDUCE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "product": math.prod,
    "mean": lambda values: sum(values) / len(values),
}
_STEPS = ("line", "paragraph", "sentence", "numbered", "path")


class _Vote(NamedTuple):
    """The vote of an ended node or of a rollout."""

    answer: Answer
    score: float
    """Weight among the votes for the answer."""
    rank: float
    """Score used to find the best path."""


@dataclass(frozen=True, slots=True)
class TreeSearch(PerQuestion[StateT], Generic[StateT]):
    """A search over a tree of steps: it values every node and takes the answer from the paths that ended.

    The tree is in `Decision.tree`. A node that can't be sampled or valued is the only one lost. If no node can be
    valued, all nodes count the same, and the result has a note. If the search ends and no path states an answer, the
    best unfinished paths are sampled to their ends, one after another and at most `paths` of them, until one does.
    """

    restarts: ClassVar[bool] = True
    """True if the search may sample new paths from the prompt once it has no unfinished ones."""

    paths: int = DEFAULT_PATHS
    """Width of the search; each strategy defines its unit."""
    value: ValueName = "p-true"
    """Value of a node: the probability that the model calls it correct (p-true), the model's rating of its chances
    (rating), the geometric mean of its token probabilities (logprob), the agreement of rollouts from it with the other
    answers (rollouts), or the score of the run's verifier (verifier)."""
    final: ValueName | None = None
    """Value of an ended path, including rollouts, if it differs from `value`. An exact checker, for example, can't
    value unfinished paths."""
    over: Over = "last"
    """Reduction of the values of a path's steps to its score."""
    rollouts: int = 2
    """Rollouts per node, with value=rollouts."""
    step: Step = "line"
    """Unit of a step: line, paragraph, sentence, numbered, path (all of it), or a number of tokens."""
    propose: bool = False
    """Take the next steps from a list the model is prompted for, instead of sampling them."""
    proposal: str = PROPOSE
    """Prompt for that list."""
    choose: Literal["weighted", "best", "vote"] = "weighted"
    """Choice of the answer: the largest sum of scores (weighted), the best path (best), or the most paths (vote).
    Scores below 0 count as 0."""
    max_steps: int = 40
    """Maximum number of steps of a path. The rest of a path that is sampled to its end is one step."""
    nodes: int | None = None
    """Maximum number of nodes of the tree, not counting the prompt."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings; `max_tokens` limits a whole path."""

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

    @property
    def fallback(self) -> AnyStrategy | None:
        return SelfConsistency(self.paths, self.sampling) if self.step != "path" or self.propose else None

    @abstractmethod
    def advance(self, state: StateT) -> None:
        """Start the expansions that are due. Called at the start and after every event."""

    def on_expanded(self, state: StateT, expansion: Expansion) -> None:
        """Handle the end of an expansion, after its children were valued or have failed."""

    def start(self, roots: Sequence[Path]) -> list[StateT]:
        states = [self.initial_state(root) for root in roots]
        for question, state in enumerate(states):
            state.question = question
        return states

    def next_actions(self, samples: StateT) -> Sequence[Action]:
        if not samples.done:
            self.advance(samples)
        if samples.done and not samples.running:
            self._complete_next(samples)
        actions, samples.outbox = samples.outbox, []
        return actions

    def observe(self, samples: StateT, event: Event) -> None:
        samples.dispatch(event)

    def expand(self, state: StateT, node: Node, count: int) -> Expansion | None:
        """Start expanding a node by `count` children, or fewer if `nodes` allows no more.

        Returns None, and ends the search, if the budget or `nodes` allows none.
        """
        count = int(min(count, self._free_nodes(state)))
        if count < 1 or state.budget_spent:
            state.done = True
            return None
        steps: StepGenerator = SampledSteps(self.step, self.sampling)
        if self.propose:
            steps = ProposedSteps(self.sampling, self.proposal)
        return self._start(state, node, count, steps, lambda ended: self.on_expanded(state, ended))

    def _complete_next(self, state: StateT) -> None:
        """Sample the best unfinished path to its end, or a new one without any; none if a path states an answer."""
        failed = state.completed and state.nodes[-1].parent is not state.completed[-1]
        spent = state.budget_spent or len(state.completed) >= self.paths or self._free_nodes(state) < 1
        if failed or spent or self._votes(state):
            return
        unfinished = [node for node in state.nodes[1:] if not node.ended and not node.children]
        allowed = [node for node in unfinished if node.depth < self.max_steps and node not in state.completed]
        best = max(self.surviving(state, allowed), key=self.rank, default=state.root_node)
        if best is state.root_node and not (self.restarts and self.sampling.temperature > 0):
            return  # without a temperature, a new path is the same again
        best.pruned = False
        state.completed.append(best)
        self._start(state, best, 1, SampledSteps("path", self.sampling), lambda _: None)

    def _free_nodes(self, state: StateT) -> float:
        """Return the number of nodes that the tree may still get."""
        return math.inf if self.nodes is None else self.nodes - state.requested_nodes

    def _start(
        self, state: StateT, node: Node, count: int, steps: StepGenerator, on_done: Callable[[Expansion], None]
    ) -> Expansion:
        state.requested_nodes += count
        expansion = Expansion(state, node, make_valuer(self.value, self.sampling, self.rollouts, self.final), on_done)
        steps.start(expansion, count)
        return expansion

    def score(self, node: Node) -> float:
        """Return the score of a path: the values of its steps reduced by `over`. Steps without a value don't count."""
        values = [step.value for step in node.steps() if step.value is not None]
        return _REDUCE[self.over](values[::-1]) if values else 0.0

    def rank(self, node: Node) -> float:
        """Return the score used to find the best node."""
        return self.score(node)

    def reaches(self, state: StateT, node: Node, threshold: float) -> bool:
        """Return True if a node's score is at least `threshold`, or if no node of the tree was ever valued."""
        return not _any_valued(state) or (not node.failure and self.score(node) >= threshold)

    def surviving(self, state: StateT, nodes: Sequence[Node]) -> list[Node]:
        """Return the nodes that have not failed, or all of them if no node of the tree was ever valued."""
        valued = [node for node in nodes if not node.failure]
        return valued or ([] if _any_valued(state) else list(nodes))

    def voting_nodes(self, state: StateT) -> Sequence[Node]:
        """Return the ended nodes that vote, each repeated by its number of votes."""
        return [node for node in state.nodes if node.ended]

    def standing(self, state: list[StateT], question: int) -> Decision:
        return self.conclude(state[question])  # progress reports need no tree, which takes time to copy

    def decide(self, samples: StateT) -> Decision:
        return replace(self.conclude(samples), tree=snapshot(samples.nodes))

    def conclude(self, state: StateT) -> Decision:
        """Return the best answer so far, without the tree."""
        votes = self._votes(state) or self._votes_of_unfinished(state)
        unvalued = _is_unvalued(state)
        plain = count(vote.answer for vote in votes)
        best: dict[Answer, float] = {}
        for vote in votes:
            best[vote.answer] = max(vote.rank, best.get(vote.answer, vote.rank))
        tallies = {"plain": Tally(plain, None), "best": Tally(best, None)}
        if unvalued:
            note = f"{self.name}: no node could be valued, so the majority answered"
            return Decision(leader(plain), None, plain, degraded=() if state.running else (note,))
        if self.choose == "weighted":
            weighted = weigh((vote.answer, max(0.0, vote.score)) for vote in votes)
            return Decision(leader(weighted), None, weighted, tallies)
        return Decision(leader(best if self.choose == "best" else plain), None, plain, tallies)

    def _votes(self, state: StateT) -> list[_Vote]:
        """Return the votes of ended paths, rollouts included. Without any, rollouts that could not be valued vote."""
        votes = [*self._node_votes(state, _is_unvalued(state)), *self._rollout_votes(state)]
        return votes or [_Vote(end.answer, 0.0, 0.0) for end in state.rollouts if end.answer is not None]

    def _votes_of_unfinished(self, state: StateT) -> list[_Vote]:
        """Return the votes of unfinished paths that state an answer so far: better than no answer at all."""
        stating = [(node, node.stated) for node in state.nodes]
        return [_Vote(stated, self.score(node), self.rank(node)) for node, stated in stating if stated is not None]

    def _node_votes(self, state: StateT, unvalued: bool) -> list[_Vote]:
        """Return the votes of `voting_nodes`, or of all ended nodes if none of those states an answer.

        Nodes without a value vote only if the whole tree is unvalued, or if no other node states an answer.
        """
        ended = TreeSearch.voting_nodes(self, state)
        for nodes, any_value in ((self.voting_nodes(state), unvalued), (ended, unvalued), (ended, True)):
            votes = [
                _Vote(node.answer, self.score(node), self.rank(node))
                for node in nodes
                if node.answer is not None and (any_value or node.value is not None)
            ]
            if votes:
                return votes
        return []

    def _rollout_votes(self, state: StateT) -> list[_Vote]:
        """Return the votes of rollouts: their `final` value, or their answer's share of all answers without one."""
        ends = [(end.answer, end.value) for end in state.rollouts if end.answer is not None]
        if self.final is None:
            shares = state.answer_shares()
            return [_Vote(answer, shares[answer], shares[answer]) for answer, _ in ends]
        return [_Vote(answer, value, value) for answer, value in ends if value is not None]


def _is_unvalued(state: SearchState) -> bool:
    """Return True if the tree has nodes besides the prompt, and none could be valued."""
    return len(state.nodes) > 1 and not _any_valued(state)


def _any_valued(state: SearchState) -> bool:
    return any(node.value is not None for node in state.nodes)
