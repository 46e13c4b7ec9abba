"""A trace that `branchwise solve --trace` wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from branchwise.core.errors import ConfigError
from branchwise.core.tree import Tree
from branchwise.core.usage import Usage

_WRITE_ONE = "write one with branchwise solve --trace FILE"


class Head(BaseModel):
    """What was asked, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str
    strategy: str
    model: str
    answer: str | None
    confidence: float | None
    votes: Mapping[str, float]
    outcome: str
    advice: str
    usage: Usage
    degraded: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """A question, what came of it and the tree that was explored."""

    head: Head
    tree: Tree
    best: frozenset[int]
    """The nodes of the best path that states the answer."""

    def straight(self, number: int) -> tuple[int, ...]:
        """A node and those that go on from it, as long as each goes on in one way only."""
        line = [number]
        while len(children := self.tree.children(line[-1])) == 1:
            line.append(children[0])
        return tuple(line)


def read_trace(file: Path) -> Trace:
    """Read a trace. Raises ConfigError."""
    record = _read(file)
    if "reference" in record and "correct" in record:
        raise ConfigError("trace", f"{file} is of an evaluation", "run branchwise report on its folder")
    try:
        head = Head.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError("trace", f"{file} is no trace ({what})", _WRITE_ONE) from error
    nodes = record.get("tree")
    if not isinstance(nodes, list):
        raise ConfigError("trace", f"{file} holds no tree: an older version wrote it", _WRITE_ONE.replace("one", "it"))
    try:
        tree = Tree.from_record(nodes)
    except ConfigError as error:
        raise ConfigError("trace", f"the tree in {file}: {error.problem}", _WRITE_ONE) from error
    best = () if head.answer is None else tree.best_path(head.answer)
    return Trace(head, tree, frozenset(best))


def _read(file: Path) -> Mapping[str, JsonValue]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("trace", f"cannot read {file} ({error.strerror})", "name a file that was written by "
            "branchwise solve --trace") from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        problem = f"{file} is not one JSON object"
        if file.suffix == ".jsonl":
            raise ConfigError("trace", problem, "for an evaluation, run branchwise report on its folder") from error
        raise ConfigError("trace", problem, _WRITE_ONE) from error
    if not isinstance(record, dict):
        raise ConfigError("trace", f"{file} is not one JSON object", _WRITE_ONE)
    return record
