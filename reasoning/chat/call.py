"""A tool call: read from a JSON value, and written in canonical form."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from branchwise.chat.literals import decode
from branchwise.chat.tool_set import ToolSet


class Call(NamedTuple):
    """A call before it gets an id."""

    name: str
    arguments: dict[str, JsonValue]


def read_calls(values: Sequence[JsonValue], tools: ToolSet) -> list[Call]:
    """Return every value as a call; empty if one of them is not a call."""
    calls = [call for value in values if (call := _as_call(value, tools)) is not None]
    return calls if len(calls) == len(values) else []


def _as_call(value: JsonValue, tools: ToolSet) -> Call | None:
    if not isinstance(value, dict):
        return None
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        decoded = decode(arguments, len(arguments) - len(arguments.lstrip()))
        arguments = decoded.value if decoded is not None and not arguments[decoded.end :].strip() else arguments
    elif arguments is None or isinstance(arguments, str):
        arguments = {}  # a tool without parameters
    if not isinstance(name, str) or not isinstance(arguments, dict) or not tools.accepts(name, arguments):
        return None
    call = Call(name, arguments)
    try:
        canonical([call]).encode()
    except (UnicodeEncodeError, RecursionError):  # an unpaired surrogate, or nesting too deep to serialize
        return None
    return call


def canonical(calls: Sequence[Call]) -> str:
    """Return the calls as JSON text in canonical form: equal calls give equal texts."""
    return json.dumps(
        [{"name": call.name, "arguments": _normalize(call.arguments)} for call in calls], ensure_ascii=False
    )


def _normalize(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {key: _normalize(value[key]) for key in sorted(value)}
        case list():
            return [_normalize(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
