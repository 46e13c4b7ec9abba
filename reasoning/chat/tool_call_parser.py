"""Parsing tool calls in the syntaxes that models use.

`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`    Hermes, Qwen: one tag per call, anywhere in the text
`[TOOL_CALLS][{"name": ..., "arguments": {...}}]`              Mistral: after the text
`{"name": ..., "parameters": {...}}`                           Llama: the whole text, also several objects, a list of
                                                               them, or in a ```json fence
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple, NoReturn

from pydantic import JsonValue

_TAG = re.compile(r"<tool_call>\s*")
_TAG_CLOSED = re.compile(r"\s*(?:</tool_call>|\Z)")
_MARK = re.compile(r"\[TOOL_CALLS\]\s*")
_AROUND_BARE = re.compile(r"(?:\s|[;,]|```(?:json)?|<\|python_tag\|>)*")
UNFINISHED = re.compile(
    r"<tool_call>(?!.*</tool_call>)|\[TOOL_CALLS\]"
    r"|\A(?:\s|```(?:json)?|<\|python_tag\|>|\[)*\{\s*\"(?:name|type|function|parameters|arguments)\"\s*:",
    re.DOTALL,
)
"""Text that may become a call when it continues: an open tag, the mark, or the beginning of a bare call."""


class Call(NamedTuple):
    """A call before it gets an id."""

    name: str
    arguments: dict[str, JsonValue]


class ParsedText(NamedTuple):
    """The text without its calls, and the calls; the whole text if it has no calls."""

    content: str
    calls: list[Call]


class _Decoded(NamedTuple):
    """A JSON value and the index after its last character."""

    value: JsonValue
    end: int


def parse_calls(text: str, names: Collection[str]) -> ParsedText:
    """Parse the text with the first syntax that finds calls."""
    readings = (parse(text, names) for parse in (_parse_tagged, _parse_marked, parse_bare_calls))
    return next((reading for reading in readings if reading.calls), ParsedText(text, []))


def _parse_tagged(text: str, names: Collection[str]) -> ParsedText:
    kept: list[str] = []
    calls: list[Call] = []
    at = 0
    for tag in _TAG.finditer(text):
        decoded = _decode(text, tag.end()) if tag.start() >= at else None  # an argument may contain a tag
        closed = None if decoded is None else _TAG_CLOSED.match(text, decoded.end)
        call = None if decoded is None else _as_call(decoded.value, names)
        if call is not None and closed is not None:
            kept.append(text[at : tag.start()])
            calls.append(call)
            at = closed.end()
    return ParsedText("".join((*kept, text[at:])).strip(), calls)


def _parse_marked(text: str, names: Collection[str]) -> ParsedText:
    for mark in _MARK.finditer(text):
        decoded = _decode(text, mark.end())
        if decoded is not None and isinstance(decoded.value, list):
            calls = _all_calls(decoded.value, names)
            if calls:
                return ParsedText((text[: mark.start()] + text[decoded.end :]).strip(), calls)
    return ParsedText(text, [])


def parse_bare_calls(text: str, names: Collection[str]) -> ParsedText:
    """Parse a text that consists of calls alone. Without a mark, an object is a call only if it has arguments."""
    values: list[JsonValue] = []
    at = _skip_separators(text, 0)
    while at < len(text):
        decoded = _decode(text, at)
        if decoded is None:
            return ParsedText(text, [])
        values += decoded.value if isinstance(decoded.value, list) else [decoded.value]
        at = _skip_separators(text, decoded.end)
    if not all(isinstance(value, dict) and {"arguments", "parameters"} & value.keys() for value in values):
        return ParsedText(text, [])
    calls = _all_calls(values, names)
    return ParsedText("" if calls else text, calls)


def _skip_separators(text: str, at: int) -> int:
    """Return the index of the next bare value."""
    separators = _AROUND_BARE.match(text, at)
    return at if separators is None else separators.end()


def _all_calls(values: Sequence[JsonValue], names: Collection[str]) -> list[Call]:
    """Return every value as a call; empty if one of them is not a call."""
    calls = [call for value in values if (call := _as_call(value, names)) is not None]
    return calls if len(calls) == len(values) else []


def _as_call(value: JsonValue, names: Collection[str]) -> Call | None:
    if not isinstance(value, dict):
        return None
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        decoded = _decode(arguments, len(arguments) - len(arguments.lstrip()))
        arguments = decoded.value if decoded is not None and not arguments[decoded.end :].strip() else arguments
    elif arguments is None or isinstance(arguments, str):
        arguments = {}  # a tool without parameters
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    call = Call(name, arguments)
    try:
        canonical([call]).encode()
    except (UnicodeEncodeError, RecursionError):  # an unpaired surrogate, or nesting too deep to serialize
        return None
    return call


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _reject(number)


_DECODER = json.JSONDecoder(parse_constant=_reject, parse_float=_finite)


def _decode(text: str, at: int) -> _Decoded | None:
    """Decode the JSON object or list that starts at `at`; None if it is invalid."""
    if text[at : at + 1] not in ("{", "["):
        return None
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return _Decoded(value, end)


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
