"""What a run returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pydantic import BaseModel, JsonValue

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.tree import Tree
from branchwise.core.usage import Usage

_DIGITS = 6  # of passes and nats in records: the rest is float noise


class Outcome(Enum):
    """How a run ended; the value is advice to a person."""

    COMPLETE = "The strategy finished."
    NO_ANSWER = (
        "No branch stated an answer in the expected form. Raise max_tokens if branches end at their limit, "
        "or check that the task fits the question."
    )
    TOKENS_SPENT = "The token budget ran out: this is the best answer so far. Raise the budget to explore more."
    SECONDS_SPENT = "The time budget ran out: this is the best answer so far. Raise the budget to explore more."
    PATHS_SPENT = "The path budget ran out: this is the best answer so far. Raise the budget to explore more."
    CANCELLED = "The run was stopped: this is the best answer so far."
    FAILED = "The prompt or every branch failed. The errors say why."


@dataclass(frozen=True, slots=True)
class Branch:
    """One finished branch: its path, the answer it states (None: none), and where it grew from."""

    number: int
    path: Path
    answer: Answer | None
    steps: tuple[int, ...]
    prefix_tokens: int = 0
    """Generated tokens of the path it was grown from; 0 at a prompt."""
    prefix_chars: int = 0
    """The length of that path's text, the prompt's opening included."""
    parent: int | None = None
    """The finished branch whose first `prefix_tokens` tokens those are; None at a prompt."""
    cost: Usage = field(default_factory=Usage)
    """What it cost by itself."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One way of counting the branches: the weight of each answer, and the probability that the leader leads."""

    votes: Mapping[str, float]
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """One answer, how sure it is, what it rests on and what it cost."""

    answer: str | None
    """The answer with most weight, as its first branch in issue order wrote it; None when there is none."""
    confidence: float | None
    """Probability that `answer` is the model's most frequent one; None where the strategy has no estimate."""
    votes: Mapping[str, float]
    """Weight of each answer, most first."""
    outcome: Outcome
    usage: Usage
    paths: tuple[Branch, ...] = ()
    """Every finished branch, in issue order."""
    tallies: Mapping[str, Vote] = field(default_factory=dict)
    """Other ways of counting the same branches."""
    value: BaseModel | None = None
    """The answer as an object, where the task has a pydantic model."""
    degraded: tuple[str, ...] = ()
    """What the backend could not do as asked, in words."""
    errors: tuple[str, ...] = ()
    """What went wrong, in words: branches that failed, or the prompt."""
    tree: Tree = field(default_factory=Tree)
    """What was explored: the strategy's own search tree where it keeps one, otherwise that of `paths`, in which what
    several have in common is there once."""

    def record(self, *, tokens: bool = True) -> dict[str, JsonValue]:
        """The result as JSON data. With `tokens`, its paths hold all it takes to replay them."""
        usage = self.usage.model_copy(update={"forward_passes": round(self.usage.forward_passes, _DIGITS)})
        return {
            "answer": self.answer,
            "confidence": self.confidence,
            "votes": dict(self.votes),
            "outcome": self.outcome.name.lower(),
            "advice": self.outcome.value,
            "usage": usage.model_dump(),
            "value": None if self.value is None else self.value.model_dump(mode="json"),
            "tallies": {
                name: {"votes": dict(vote.votes), "confidence": vote.confidence} for name, vote in self.tallies.items()
            },
            "paths": [_path_record(branch, tokens) for branch in self.paths],
            "degraded": list(self.degraded),
            "errors": list(self.errors),
            "tree": self.tree.record(),
        }


def _path_record(branch: Branch, tokens: bool) -> dict[str, JsonValue]:
    path = branch.path
    record: dict[str, JsonValue] = {
        "branch": branch.number,
        "answer": None if branch.answer is None else branch.answer.text,
        "vote": None if branch.answer is None else branch.answer.value,
        "text": path.answer_text,
        "tokens": path.generated,
        "parent": branch.parent,
        "prefix_tokens": branch.prefix_tokens,
        "prefix_chars": branch.prefix_chars,
        "steps": list(branch.steps),
        "stop_reason": None if path.stop_reason is None else path.stop_reason.value,
        "key": f"{path.key:016x}",
    }
    if tokens:
        # Passes are shared with whatever else ran: they would differ in every replay.
        cost = branch.cost.model_dump(exclude={"seconds", "forward_passes"})
        record |= {"cost": cost, "prompt_key": f"{path.root.key:016x}"}
        record["segments"] = [_segment_record(segment) for segment in path.segments()]
    return record


def _segment_record(segment: Path) -> dict[str, JsonValue]:
    return {
        "key": f"{segment.key:016x}",
        "token_ids": list(segment.token_ids),
        "text": segment.text,
        "shown": segment.shown,
        "ends": list(segment.ends),
        "logprobs": None if segment.logprobs is None else [round(value, _DIGITS) for value in segment.logprobs],
        "forced": segment.forced,
    }
