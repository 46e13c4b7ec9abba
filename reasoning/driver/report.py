"""Putting together what the accounts and the strategy say of each question."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from branchwise.answers.fields import vote_fields
from branchwise.answers.formats import Structured
from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError
from branchwise.core.path import Path
from branchwise.core.result import Branch, Outcome, Result, Vote
from branchwise.core.votes import leader
from branchwise.driver.account import Account
from branchwise.driver.sampled_tree import sampled_tree
from branchwise.prompts.task import Task
from branchwise.strategies.actions import Finished
from branchwise.strategies.strategy import Decision


def result(account: Account, decision: Decision, task: Task, observer_error: BranchwiseError | None) -> Result:
    """The result on one question."""
    paths = _branches(account.finished)
    settled = Result(
        answer=None if decision.answer is None else decision.answer.value,
        confidence=decision.confidence,
        votes=_by_value(decision.votes),
        outcome=outcome(account, decision),
        usage=account.usage.model_copy(update={"seconds": account.seconds}),
        paths=paths,
        tallies={name: Vote(_by_value(t.votes), t.confidence) for name, t in decision.tallies.items()},
        degraded=tuple(dict.fromkeys((*account.notes, *decision.degraded))),
        errors=_messages([*account.errors, *([] if observer_error is None else [observer_error])]),
        tree=sampled_tree(paths, account.root) if decision.tree is None else decision.tree,
    )
    return _structured(settled, decision, task)


def outcome(account: Account, decision: Decision) -> Outcome:
    """How the work on a question ended."""
    if account.cut is not None:
        return account.cut
    if decision.answer is not None:
        return Outcome.COMPLETE
    return Outcome.FAILED if account.errors and not account.finished else Outcome.NO_ANSWER


def _structured(settled: Result, decision: Decision, task: Task) -> Result:
    """The result with its object, where the task asks for one: voted field by field, unless the strategy
    chose another answer than the one with most votes."""
    answer, format_ = decision.answer, task.format
    if not isinstance(format_, Structured) or answer is None:
        return settled
    votes = decision.votes or {answer: 1.0}
    if leader(votes) == answer and (voted := vote_fields(format_.model, votes)) is not None:
        return replace(settled, value=voted.value, confidence=voted.confidence, answer=voted.value.model_dump_json())
    value = format_.model.model_validate_json(answer.value)
    return replace(settled, value=value, answer=value.model_dump_json())


def _branches(finished: Sequence[Finished]) -> tuple[Branch, ...]:
    """The finished branches, each with the one whose beginning it continues."""
    numbers: dict[Path, int] = {}
    drawn: dict[int, list[Finished]] = {}  # by the key of a sample
    branches = []
    for end in finished:
        origin, parent = end.action.path, None
        if origin.parent is not None:
            key, length = origin.key if origin.cut_from is None else origin.cut_from, origin.generated
            by_key = (other.branch for other in drawn.get(key, ()) if other.path.generated >= length)
            parent = numbers.get(origin, next(by_key, None))
        branches.append(
            Branch(
                number=end.branch,
                path=end.path,
                answer=end.answer,
                steps=end.steps,
                prefix_tokens=origin.generated,
                prefix_chars=len(origin.whole_text) if origin.parent is not None else 0,
                parent=parent,
                cost=end.cost,
            )
        )
        numbers[end.path] = end.branch
        for key in dict.fromkeys(segment.key for segment in end.path.segments()):
            drawn.setdefault(key, []).append(end)
    return tuple(branches)


def _by_value(votes: Mapping[Answer, float]) -> dict[str, float]:
    return {answer.value: weight for answer, weight in sorted(votes.items(), key=lambda item: -item[1])}


def _messages(errors: Sequence[BranchwiseError]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, errors)))
