"""What a run reports while it works, for live displays and logs."""

from collections.abc import Callable
from dataclasses import dataclass

from branchwise.answers.answer import Answer
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
    """What the strategy makes of a question by now."""

    question: int
    decision: Decision


RunEvent = BranchStarted | BranchGrew | BranchEnded | Standing
Observer = Callable[[RunEvent], None]
