"""The first reply of a question shows whether its replies can be voted on, where the answer format is a guess."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from branchwise.core.errors import BudgetError
from branchwise.core.path import StopReason
from branchwise.driver.requests import PendingRequest
from branchwise.driver.results import QuestionState
from branchwise.strategies.actions import Completion, Extend, Finished

NO_VOTE = (
    "the first reply states no answer that could be voted on, so no other path was sampled; name an answer format, "
    "or a strategy that compares replies, such as universal-self-consistency"
)


@dataclass(slots=True)
class _Gate:
    """The branches of one question that wait for the first one."""

    first: PendingRequest
    waiting: list[PendingRequest] = field(default_factory=list)
    has_votes: bool | None = None
    """None until the first branch has ended."""


class FirstReplies:
    """Holds branches back until the first branch of their question has ended.

    A first branch that ends the model's turn and states no answer refuses the others, as a spent budget does. Only
    questions whose task has a tentative format are affected.
    """

    def __init__(self) -> None:
        self._gates: dict[QuestionState, _Gate] = {}

    def holds(self, request: PendingRequest) -> bool:
        """Return True if the branch must not be started now. It waits, or it has its completion: a refusal."""
        origin = request.origin
        if origin.aside or not origin.task.tentative or not isinstance(request.action, Extend):
            return False
        gate = self._gates.setdefault(origin.question, _Gate(request))
        if gate.first is request or gate.has_votes:
            return False
        if gate.has_votes is None:
            gate.waiting.append(request)
        else:
            _refuse(request)
        return True

    def ended(self, request: PendingRequest, completion: Completion) -> Iterator[PendingRequest]:
        """Yield the branches that may start now that a request has ended."""
        gate = self._gates.get(request.origin.question)
        if gate is None or gate.first is not request:
            return
        gate.has_votes = not (
            isinstance(completion, Finished)
            and completion.answer is None
            and completion.path.stop_reason is StopReason.END
        )
        waiting, gate.waiting = gate.waiting, []
        if gate.has_votes:
            yield from waiting
            return
        for held in waiting:
            _refuse(held)


def _refuse(request: PendingRequest) -> None:
    request.origin.question.note(NO_VOTE)
    request.completion = request.failed(BudgetError("paths"))
