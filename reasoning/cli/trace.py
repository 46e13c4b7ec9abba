"""Trace files: a result and its tree of reasoning as JSON, written by `branchwise solve`, read by `branchwise show`."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from branchwise.core.errors import ConfigError, require
from branchwise.core.tree import Tree
from branchwise.core.usage import Usage
from branchwise.core.validation import first_field_error

_WRITE_ONE = "write one with branchwise solve --trace FILE"


class TraceHeader(BaseModel):
    """The question and its result, without the paths and the tree."""

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
    """A result and the tree of reasoning behind it."""

    header: TraceHeader
    tree: Tree
    best: frozenset[int]
    """Numbers of the nodes on the best path that states the answer."""

    def chain(self, number: int) -> tuple[int, ...]:
        """Return the node and its descendants down to the first one that doesn't have exactly one child."""
        nodes = [number]
        while len(children := self.tree.children(nodes[-1])) == 1:
            nodes.append(children[0])
        return tuple(nodes)


def check_trace_file(file: Path) -> None:
    """Raise ConfigError if no trace can be written to `file`, before the model runs."""
    require(file.parent.is_dir(), "trace", f"the folder {file.parent} does not exist", "create it")
    require(file.is_file() or not file.exists(), "trace", f"{file} is not a regular file", "name a file in a folder")
    require(os.access(file.parent, os.W_OK), "trace", f"the folder {file.parent} is not writable", "use another one")


def write_trace(file: Path, record: Mapping[str, JsonValue]) -> None:
    """Write a trace atomically: the file is complete or unchanged. Raises ConfigError."""
    file = file.resolve()  # replaces the target of a symbolic link, not the link
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError("trace", f"cannot write {file} ({error.strerror})", "use another file") from error


def read_trace(file: Path) -> Trace:
    """Return the trace in a file. Raises ConfigError if it can't be read or isn't a trace."""
    record = _read_object(file)
    if "reference" in record and "correct" in record:
        raise ConfigError("trace", f"{file} belongs to an evaluation", "run branchwise report on its folder")
    try:
        header = TraceHeader.model_validate(record)
    except ValidationError as error:
        problem = first_field_error(error)
        raise ConfigError("trace", f"{file} is not a trace ({problem})", _WRITE_ONE) from error
    nodes = record.get("tree")
    if not isinstance(nodes, list):
        fix = "write it again with branchwise solve --trace FILE"
        raise ConfigError("trace", f"{file} has no tree: an older version wrote it", fix)
    try:
        tree = Tree.from_record(nodes)
    except ConfigError as error:
        raise ConfigError("trace", f"the tree in {file}: {error.problem}", _WRITE_ONE) from error
    best = () if header.answer is None else tree.best_path(header.answer)
    return Trace(header, tree, frozenset(best))


def _read_object(file: Path) -> Mapping[str, JsonValue]:
    problem = f"{file} is not one JSON object"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("trace", f"cannot read {file} ({error.strerror})", _WRITE_ONE) from error
    except (ValueError, RecursionError) as error:
        fix = "for an evaluation, run branchwise report on its folder" if file.suffix == ".jsonl" else _WRITE_ONE
        raise ConfigError("trace", problem, fix) from error
    if not isinstance(record, dict):
        raise ConfigError("trace", problem, _WRITE_ONE)
    return record
