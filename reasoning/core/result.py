"""The result of a run: one answer with its votes, paths, tree and usage, and its JSON record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pydantic import BaseModel, JsonValue

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.tree import Tree
from branchwise.core.usage import Usage

_DIGITS = 6  # decimals of passes and nats in records; further digits are floating-point noise


class Outcome(Enum):
    """Ending of a run; the value is advice to the user."""

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
    """A finished branch: its path, its answer (None if it states none), and the prefix it continues."""

    number: int
    path: Path
    answer: Answer | None
    steps: tuple[int, ...]
    prefix_tokens: int = 0
    """Generated tokens of the prefix; 0 if the branch starts at a prompt."""
    prefix_chars: int = 0
    """Length of the prefix's text, including the assistant prefix of the prompt."""
    parent: int | None = None
    """Finished branch that the prefix was cut from; None if the branch starts at a prompt."""
    cost: Usage = field(default_factory=Usage)
    """Usage of this branch alone."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote count over the branches: the weight of each answer, and the confidence in the leader."""

    votes: Mapping[str, float]
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """An answer with its confidence, the paths that support it, and its usage."""

    answer: str | None
    """The answer with most weight, as written by its first branch in issue order; None if no branch states one."""
    confidence: float | None
    """Probability that `answer` is the model's most frequent answer; None if the strategy does not estimate it."""
    votes: Mapping[str, float]
    """Weight of each answer, largest first."""
    outcome: Outcome
    usage: Usage
    paths: tuple[Branch, ...] = ()
    """Every finished branch, in issue order."""
    tallies: Mapping[str, Vote] = field(default_factory=dict)
    """Other vote counts over the same branches, by name."""
    value: BaseModel | None = None
    """The answer as an object, if the task has a pydantic model."""
    degraded: tuple[str, ...] = ()
    """Requested features that the backend does not support, as messages."""
    errors: tuple[str, ...] = ()
    """Failures of branches or of the prompt, as messages."""
    tree: Tree = field(default_factory=Tree)
    """The strategy's search tree if it has one, otherwise the prefix tree of `paths`."""

    def record(self, *, tokens: bool = True) -> dict[str, JsonValue]:
        """Return the result as JSON data. With `tokens`, the paths hold everything that a replay needs."""
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
        # Passes are shared with other requests, so a replay would not reproduce them.
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
