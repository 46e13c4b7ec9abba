"""One answered question: a line of results.jsonl, from which summaries and reports are made."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator

from branchwise.core.result import Outcome, Result
from branchwise.core.usage import Usage
from branchwise.evaluation.grading import Grade
from branchwise.evaluation.row import Row


class CurvePoint(NamedTuple):
    """The state of a question after one of its branches."""

    sampled: int
    """Tokens sampled so far."""
    correct: bool
    """True if the leading answer is correct."""


class AnsweredTally(BaseModel):
    """The votes as one method counts them."""

    model_config = ConfigDict(frozen=True)

    votes: Mapping[str, float]
    confidence: float | None


class AnsweredPath(BaseModel):
    """One finished branch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    branch: int
    answer: str | None
    """The answer as the branch states it."""
    vote: str | None
    """The answer that the branch votes for."""
    text: str
    """Full text, including the prefix taken from the parent."""
    tokens: int
    parent: int | None
    prefix_tokens: int
    """Tokens taken from the parent."""
    prefix_chars: int
    """Characters of `text` taken from the parent."""
    stop_reason: str | None


class Answered(BaseModel):
    """One question answered by one strategy, and graded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: str
    """Name of the data set."""
    id: str
    strategy: str
    question: str
    reference: str
    row: str = ""
    """Digest of the row (`Row.digest`); empty in results of earlier versions."""
    correct: bool
    metrics: Mapping[str, float] = {}
    """Text metrics by name, from 0 to 1; empty if the answer is not a text."""
    answer: str | None
    confidence: float | None
    votes: Mapping[str, float]
    tallies: Mapping[str, AnsweredTally] = {}
    """Other methods of counting the votes, by name."""
    outcome: str
    usage: Usage
    paths: tuple[AnsweredPath, ...]
    right: tuple[bool, ...]
    """True for each path whose answer is correct, shape [paths]."""
    curve: tuple[CurvePoint, ...] = ()
    """The state after each branch, in the order in which the strategy requested them."""
    replayed: int = 0
    """Number of branches replayed from a record; they took no time to sample."""
    batch: str = ""
    """Digest of the ids in a batch of questions that share paths; empty if the question has its own paths."""
    degraded: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.right) != len(self.paths):
            raise ValueError(f"has {len(self.paths)} paths, but grades for {len(self.right)}")
        return self

    @property
    def failed(self) -> bool:
        """True if an error prevented an answer."""
        return self.outcome == Outcome.FAILED.name.lower()

    def is_for(self, row: Row) -> bool:
        """Return True if the row is the one that was answered, unchanged."""
        return (row.question, row.answer) == (self.question, self.reference) and self.row in ("", row.digest)


def make_answered(
    result: Result,
    row: Row,
    *,
    data: str,
    strategy: str,
    graded: Grade,
    curve: Sequence[CurvePoint],
    replayed: int,
    batch: str,
) -> Answered:
    """Return the line of results.jsonl for a result and its grade."""
    record = result.record(tokens=False)
    votes = [None if branch.answer is None else branch.answer.value for branch in result.paths]
    added = {
        "data": data,
        "id": row.id,
        "strategy": strategy,
        "question": row.question,
        "reference": row.answer,
        "row": row.digest,
        "correct": graded.correct,
        "metrics": dict(graded.metrics),
        "right": [vote is not None and graded.right.get(vote, False) for vote in votes],
        "curve": tuple(curve),
        "replayed": replayed,
        "batch": batch,
    }
    return Answered.model_validate({**record, **added})
