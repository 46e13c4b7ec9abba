"""State of each question during a run, and the `Result` made of it, with the tree of its branches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from branchwise.answers.formats import Structured
from branchwise.answers.groups import AnswerGroups
from branchwise.answers.structured import vote_fields
from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError, BudgetError, CallError, ConfigError
from branchwise.core.path import Path
from branchwise.core.result import Branch, Outcome, Result, Vote
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.core.usage import Usage
from branchwise.core.votes import leader
from branchwise.driver.fallbacks import SLOW_ANSWERS
from branchwise.prompts.task import Task
from branchwise.strategies.actions import Completion, Failed, Finished
from branchwise.strategies.strategy import Decision


@dataclass(slots=True, eq=False)
class QuestionState:
    """One question of a run: its usage, its finished branches and its errors so far."""

    number: int
    """Position among the run's questions."""
    index: int
    """Position among the roots that the strategy started with; its events carry this one."""
    groups: AnswerGroups
    root: Path | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    finished: list[Finished] = field(default_factory=list)
    errors: list[BranchwiseError] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    """Fallbacks that were used, each once, in order."""
    early_end: Outcome | None = None
    """Reason why work on the question ended early; None if the strategy got everything it requested."""
    budget_exhausted: bool = False
    """True once the strategy received a BudgetError for the question."""

    @property
    def prompt_error(self) -> ConfigError | None:
        """The error that refused the question itself, if it has no prompt for that reason."""
        first = self.errors[0] if self.errors else None
        return first if self.root is None and isinstance(first, ConfigError) else None

    @property
    def total_usage(self) -> Usage:
        return self.usage.model_copy(update={"seconds": self.seconds})

    def end_early(self, reason: Outcome) -> None:
        """Record the first reason why work ended early. A cancellation overrides an exhausted budget."""
        if self.early_end is None or reason is Outcome.CANCELLED:
            self.early_end = reason

    def note(self, text: str) -> None:
        self.notes[text] = None

    async def record(self, event: Completion, cost: Usage, task: Task) -> Completion:
        """Charge `cost` and keep the event. Return it, with answer and steps added if a branch finished."""
        if isinstance(event, Finished):
            event = await self._read(event, task)
        self.usage += cost.lost() if isinstance(event, Failed) else cost
        if isinstance(event, Finished) and not event.aside:
            self.finished.append(event)
        elif isinstance(event, Failed) and isinstance(event.error, BudgetError):
            self.budget_exhausted = True  # not listed as an error: the outcome reports it
        elif isinstance(event, Failed) and event.error is not None:
            self.errors.append(event.error)
        return event

    async def _read(self, event: Finished, task: Task) -> Finished | Failed:
        """Return the event with answer and steps, or Failed if the task's format raises."""
        try:
            text = task.extract(event.path)
            answer = None
            if text is not None:
                # An aside's answer is not a vote on the question, so it is compared with no other answer.
                answer = Answer(task.format.normal(text), text) if event.aside else await self._place(text)
            return replace(event, answer=answer, steps=task.steps(event.path))
        except Exception as error:  # the format may be the user's code, and the text may be anything
            failure = CallError(f"task {task.name}", error)
            return Failed(event.question, event.action, event.branch, failure, event.aside)

    async def _place(self, text: str) -> Answer:
        """Return the answer in its group. An answer whose value takes too long is noted, and counts by its text."""
        answer = await self.groups.place(text)
        if self.groups.has_unread:
            self.note(SLOW_ANSWERS)
        if self.groups.is_out_of_time:
            self.end_early(Outcome.SECONDS_SPENT)
        return answer

    def outcome(self, decision: Decision) -> Outcome:
        """Return how work on the question ended."""
        if self.early_end is not None:
            return self.early_end
        if decision.answer is not None:
            return Outcome.COMPLETE
        if self.errors and not self.finished:
            return Outcome.FAILED
        return Outcome.NO_ANSWER if self.groups.format.has_answers else Outcome.COMPLETE

    def result(self, decision: Decision, task: Task, observer_error: BranchwiseError | None) -> Result:
        """Return the question's result. `observer_error` is reported with the question's own errors."""
        branches = _branches(self.finished)
        errors = [*self.errors, *([] if observer_error is None else [observer_error])]
        result = Result(
            answer=None if decision.answer is None else decision.answer.value,
            confidence=decision.confidence,
            votes=_by_value(decision.votes),
            outcome=self.outcome(decision),
            usage=self.total_usage,
            paths=branches,
            tallies={name: Vote(_by_value(t.votes), t.confidence) for name, t in decision.tallies.items()},
            degraded=tuple(dict.fromkeys((*self.notes, *decision.degraded))),
            errors=tuple(dict.fromkeys(map(str, errors))),
            tree=sampled_tree(branches, self.root) if decision.tree is None else decision.tree,
        )
        return _with_value(result, decision, task)


def _with_value(result: Result, decision: Decision, task: Task) -> Result:
    """Return the result with its pydantic object, if the task has a model.

    The fields are voted on one by one, unless the strategy chose another answer than the one with most votes.
    """
    answer, format_ = decision.answer, task.format
    if not isinstance(format_, Structured) or answer is None:
        return result
    votes = decision.votes or {answer: 1.0}
    if leader(votes) == answer and (voted := vote_fields(format_.model, votes)) is not None:
        return replace(result, value=voted.value, confidence=voted.confidence, answer=voted.value.model_dump_json())
    value = format_.model.model_validate_json(answer.value)
    return replace(result, value=value, answer=value.model_dump_json())


def _by_value(votes: Mapping[Answer, float]) -> dict[str, float]:
    return {answer.value: weight for answer, weight in sorted(votes.items(), key=lambda item: -item[1])}


def _branches(finished: Sequence[Finished]) -> tuple[Branch, ...]:
    """Return the finished branches, each with the number of the branch whose prefix it continues."""
    numbers: dict[Path, int] = {}
    by_key: dict[int, list[Finished]] = {}  # finished branches that contain the sample with that key
    branches = []
    for event in finished:
        prefix, parent = event.action.path, None
        if prefix.parent is not None:
            key, length = prefix.key if prefix.cut_from is None else prefix.cut_from, prefix.generated
            candidates = (other.branch for other in by_key.get(key, ()) if other.path.generated >= length)
            parent = numbers.get(prefix, next(candidates, None))
        branches.append(
            Branch(
                number=event.branch,
                path=event.path,
                answer=event.answer,
                steps=event.steps,
                prefix_tokens=prefix.generated,
                prefix_chars=len(prefix.whole_text) if prefix.parent is not None else 0,
                parent=parent,
                cost=event.cost,
            )
        )
        numbers[event.path] = event.branch
        for key in dict.fromkeys(segment.key for segment in event.path.segments()):
            by_key.setdefault(key, []).append(event)
    return tuple(branches)


# The tree of branches


class _Cut(NamedTuple):
    """A position in a path. Characters distinguish positions where a backend shows no tokens."""

    tokens: int
    """Generated tokens before it."""
    chars: int
    """Characters of the path's whole text before it."""


@dataclass(slots=True)
class _OwnPart:
    """The part of a branch that no earlier branch contains."""

    branch: Branch
    text: str
    """The whole text of the branch's path."""
    start: _Cut
    end: _Cut
    parent: int | None
    """Number of the branch whose own part it continues; None at a prompt."""
    cuts: set[_Cut]
    """Positions at which other branches continue it."""

    def split(self) -> Iterator[tuple["_Node", _Cut]]:
        """Yield the nodes of the part, and the position at which each ends.

        Text that a stop trimmed is kept if another branch continues it.
        """
        start = self.start
        for cut in sorted({*self.cuts, self.end}):
            text = self.text if cut in self.cuts else self.branch.path.answer_text
            yield _Node(None, text[start.chars : cut.chars], cut.tokens - start.tokens), cut
            start = cut


@dataclass(slots=True)
class _Node:
    """A node of the tree under construction."""

    parent: int | None
    text: str = ""
    tokens: int = 0
    branch: Branch | None = None
    """The branch that ends at the node."""
    visits: int = 0

    def tree_node(self, number: int) -> TreeNode:
        node = TreeNode(number, self.parent, self.text, self.tokens, visits=self.visits)
        if self.branch is None:
            return node
        answer = None if self.branch.answer is None else self.branch.answer.value
        return replace(node, answer=answer, state=NodeState.ENDED, cost=self.branch.cost)


def sampled_tree(branches: Sequence[Branch], prompt: Path | None) -> Tree:
    """Return the branches as a tree in which a shared prefix is one node.

    The first node is `prompt`; other prompts that branches continue are further roots. A node's visits are the number
    of branches through it, and its cost is that of the branch that ends there.
    """
    nodes = [_Node(None)]
    roots: dict[Path | None, int] = {prompt: 0}
    node_at: dict[tuple[int, _Cut], int] = {}  # by branch number and the position at which the node ends
    for number, part in _own_parts(branches).items():
        if part.parent is None:
            root = part.branch.path.root
            if root not in roots:
                roots[root] = len(nodes)
                nodes.append(_Node(None))
            above = roots[root]
        else:
            above = node_at[part.parent, part.start]
        for node, cut in part.split():
            node.parent = above
            above = node_at[number, cut] = len(nodes)
            nodes.append(node)
        nodes[above].branch = part.branch
        nodes[above].visits = 1
    for node in reversed(nodes):  # children come after their parents
        if node.parent is not None:
            nodes[node.parent].visits += node.visits
    return Tree(tuple(node.tree_node(number) for number, node in enumerate(nodes)))


def _own_parts(branches: Sequence[Branch]) -> Mapping[int, _OwnPart]:
    """Return each branch's own part by branch number, with the branch whose own part it continues."""
    parts: dict[int, _OwnPart] = {}
    for branch in branches:
        text = branch.path.whole_text
        start = _Cut(branch.prefix_tokens, branch.prefix_chars)
        parent = None if branch.parent is None else parts.get(branch.parent)
        while parent is not None and start <= parent.start:  # the prefix ends within a prefix of the parent
            parent = None if parent.parent is None else parts[parent.parent]
        if parent is not None and start <= parent.end and text.startswith(parent.text[: start.chars]):
            parent.cuts.add(start)
            number: int | None = parent.branch.number
        else:
            start, number = _Cut(0, len(branch.path.opening)), None
        end = _Cut(branch.path.generated, len(text))
        parts[branch.number] = _OwnPart(branch, text, start, end, number, set())
    return parts
