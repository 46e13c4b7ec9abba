"""The result of a run: one answer with its votes, paths, tree and usage, and its JSON forms."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, JsonValue, PlainSerializer, TypeAdapter, ValidationError

from branchwise.core.answer import Answer
from branchwise.core.errors import ConfigError
from branchwise.core.notebook import result_html
from branchwise.core.path import Path
from branchwise.core.result_json import JsonObject, JsonPath, path_content
from branchwise.core.summary import SummaryLine, answer_lines, cut, note_lines, usage_lines
from branchwise.core.tree import Tree
from branchwise.core.usage import Usage
from branchwise.core.validation import first_field_error

_PRINTED_NOTES = 5
_PRINTED_CHARS = 200
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

    @property
    def label(self) -> str:
        """Name of the outcome in records."""
        return self.name.lower()


def _outcome(value: object) -> object:
    """Return the outcome with a label; other values as they are."""
    return next((outcome for outcome in Outcome if outcome.label == value), value)


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A finished branch: its path, its answer (None if it states none), and the prefix it continues.

    Branches are equal if their paths have the same content, although a path itself equals no other.
    """

    number: int
    path: JsonPath
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Branch) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((self.number, self.path.key))

    def _content(self) -> tuple[object, ...]:
        position = (self.number, self.prefix_tokens, self.prefix_chars, self.parent)
        stated = None if self.answer is None else (self.answer.value, self.answer.text)
        return position, path_content(self.path), stated, self.steps, self.cost


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
    outcome: Annotated[Outcome, BeforeValidator(_outcome), PlainSerializer(lambda outcome: outcome.label)]
    usage: Usage
    paths: tuple[Branch, ...] = ()
    """Every finished branch, in issue order."""
    tallies: Mapping[str, Vote] = field(default_factory=dict)
    """Other vote counts over the same branches, by name."""
    value: JsonObject | None = None
    """The answer as an object, if the task has a pydantic model."""
    degraded: tuple[str, ...] = ()
    """Requested features that the backend does not support, as messages."""
    errors: tuple[str, ...] = ()
    """Failures of branches or of the prompt, as messages."""
    tree: Tree = field(default_factory=Tree)
    """The strategy's search tree if it has one, otherwise the prefix tree of `paths`."""

    def summary(self, notes: int | None = None) -> list[SummaryLine]:
        """Return the result in lines of a name and a value: answer, votes, branches, problems and usage.

        `notes` is the most lines about what was not supported or failed; None allows any number.
        """
        answered = sum(branch.answer is not None for branch in self.paths)
        complete = self.outcome is Outcome.COMPLETE
        return [
            *answer_lines(self.answer, self.confidence, self.votes),
            SummaryLine("branches", f"{len(self.paths)} finished, {answered} with an answer"),
            *(() if complete else (SummaryLine("outcome", self.outcome.value),)),
            *note_lines((*self.degraded, *self.errors), notes),
            *usage_lines(self.usage),
        ]

    def __str__(self) -> str:
        """Return a summary of at most 15 lines."""
        lines = self.summary(_PRINTED_NOTES)
        return "\n".join(f"{name:<12}{cut(value, _PRINTED_CHARS)}" for name, value in lines)

    def _repr_html_(self) -> str:
        """Return the summary, the votes and a small tree, for notebooks."""
        return result_html(self.summary(_PRINTED_NOTES), self.votes, self.tree, self.answer)

    def model_dump_json(self, *, indent: int | None = None) -> str:
        """Return the whole result as JSON text in ASCII, which `model_validate_json` reads back."""
        return json.dumps(_adapter().dump_python(self, mode="json"), indent=indent)

    @classmethod
    def model_validate_json(cls, data: str | bytes, *, answer_type: type[BaseModel] | None = None) -> "Result":
        """Return the result that `model_dump_json` wrote.

        Without the `answer_type` of the run, `value` is an object with the same fields and of another type. Raises
        ConfigError if the data are no such text.
        """
        try:
            return _adapter().validate_python(json.loads(data), context={"answer_type": answer_type})
        except ValidationError as error:
            problem = str(first_field_error(error))
        except ValueError as error:
            problem = str(error)
        raise ConfigError("result", problem, "write it with Result.model_dump_json")

    def record(self, *, tokens: bool = True) -> dict[str, JsonValue]:
        """Return the result as JSON data. With `tokens`, the paths hold everything that a replay needs."""
        usage = self.usage.model_copy(update={"forward_passes": round(self.usage.forward_passes, _DIGITS)})
        return {
            "answer": self.answer,
            "confidence": self.confidence,
            "votes": dict(self.votes),
            "outcome": self.outcome.label,
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


@cache
def _adapter() -> TypeAdapter[Result]:
    """Build the validator on first use, because that takes longer than the import of this module."""
    return TypeAdapter(Result)


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
