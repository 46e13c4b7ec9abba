"""A question as it was answered: what an evaluation keeps of it, line by line."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator

from branchwise.core.result import Outcome, Result
from branchwise.core.usage import Usage
from branchwise.evaluation.dataset import Row
from branchwise.evaluation.grade import Grade


class Point(NamedTuple):
    """Where a question stood after one of its branches."""

    sampled: int
    """Tokens sampled by then."""
    correct: bool


class Counted(BaseModel):
    """One way of counting votes."""

    model_config = ConfigDict(frozen=True)

    votes: Mapping[str, float]
    confidence: float | None


class AnsweredPath(BaseModel):
    """One finished branch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    branch: int
    answer: str | None
    """As the branch wrote it."""
    vote: str | None
    """The answer it counts for."""
    text: str
    """Its own prefix included."""
    tokens: int
    parent: int | None
    prefix_tokens: int
    prefix_chars: int
    """How much of `text` it has in common with its parent, as it continues it."""
    stop_reason: str | None


class Answered(BaseModel):
    """One question under one strategy."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: str
    id: str
    strategy: str
    question: str
    reference: str
    row: str = ""
    """A digest of all of the row's fields; empty where an earlier version did not tell."""
    correct: bool
    metrics: Mapping[str, float] = {}
    """Of answers that are texts, by name; 0 to 1."""
    answer: str | None
    confidence: float | None
    votes: Mapping[str, float]
    tallies: Mapping[str, Counted] = {}
    outcome: str
    usage: Usage
    paths: tuple[AnsweredPath, ...]
    right: tuple[bool, ...]
    """Whether each path's answer is right."""
    curve: tuple[Point, ...] = ()
    """Where the question stood after each of its branches, in the order in which they were asked for."""
    replayed: int = 0
    """Branches that came from a record: the seconds are not those of drawing them."""
    batch: str = ""
    """Which questions shared their paths with it, as a digest of their ids; empty where it had its own."""
    degraded: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.right) != len(self.paths):
            raise ValueError(f"{len(self.paths)} paths, and {len(self.right)} of them graded")
        return self

    @property
    def failed(self) -> bool:
        """Whether nothing came of it."""
        return self.outcome == Outcome.FAILED.name.lower()


def answered(
    result: Result,
    row: Row,
    *,
    data: str,
    strategy: str,
    graded: Grade,
    curve: tuple[Point, ...],
    replayed: int,
    batch: str,
) -> Answered:
    """What is kept of a result and its grade."""
    record = result.record(tokens=False)
    votes = [None if branch.answer is None else branch.answer.value for branch in result.paths]
    kept = {
        "data": data,
        "id": row.id,
        "strategy": strategy,
        "question": row.question,
        "reference": row.answer,
        "row": row.digest,
        "correct": graded.correct,
        "metrics": dict(graded.metrics),
        "right": [vote is not None and graded.right.get(vote, False) for vote in votes],
        "curve": curve,
        "replayed": replayed,
        "batch": batch,
    }
    return Answered.model_validate({**record, **kept})
