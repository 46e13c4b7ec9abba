"""What a run reports while it works, for live displays and logs."""

from collections.abc import Callable
from dataclasses import dataclass

from branchwise.answers.answer import Answer
from branchwise.errors import CallError
from branchwise.strategy import Decision


@dataclass(frozen=True, slots=True)
class BranchStarted:
    """A branch was handed to the backend."""

    question: int
    branch: int


@dataclass(frozen=True, slots=True)
class BranchGrew:
    """New tokens of a branch."""

    question: int
    branch: int
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class BranchEnded:
    """A branch ended, was cancelled or failed; `kept` is whether it finished."""

    question: int
    branch: int
    kept: bool
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the strategy makes of a question by now, after so many sampled tokens."""

    question: int
    decision: Decision
    sampled: int


RunEvent = BranchStarted | BranchGrew | BranchEnded | Standing
Observer = Callable[[RunEvent], None]


class Reporter:
    """Tells an observer, if there is one. An observer that fails is told nothing more: it never breaks a run."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self.error: CallError | None = None

    @property
    def listened(self) -> bool:
        return self._observer is not None

    def __call__(self, event: RunEvent) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception as error:
            self._observer, self.error = None, CallError("observer", error)
