"""Tool calls as answers: parsing the syntaxes that models use, and deciding when two paths make the same calls.

`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`    Hermes, Qwen: one tag per call, anywhere in the text
`[TOOL_CALLS][{"name": ..., "arguments": {...}}]`              Mistral: after the text
`{"name": ..., "parameters": {...}}`                           Llama: the whole text, also several objects, a list of
                                                               them, or in a ```json fence
"""

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from pydantic import JsonValue

from branchwise.answers.formats import AnswerFormat
from branchwise.core.errors import require
from branchwise.core.messages import ToolCall

_TAG = re.compile(r"<tool_call>\s*")
_TAG_CLOSED = re.compile(r"\s*(?:</tool_call>|\Z)")
_MARK = re.compile(r"\[TOOL_CALLS\]\s*")
_AROUND_BARE = re.compile(r"(?:\s|[;,]|```(?:json)?|<\|python_tag\|>)*")
# Text that may become a call when it continues: an open tag, the mark, or the beginning of a bare call.
_UNFINISHED = re.compile(
    r"<tool_call>(?!.*</tool_call>)|\[TOOL_CALLS\]"
    r"|\A(?:\s|```(?:json)?|<\|python_tag\|>|\[)*\{\s*\"(?:name|type|function|parameters|arguments)\"\s*:",
    re.DOTALL,
)
PROSE = "(prose)"
"""The vote of a path whose text has neither a tool call nor an answer."""


class SplitCalls(NamedTuple):
    """The text without its tool calls, and the calls."""

    content: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolCallFormat(AnswerFormat):
    """Answer format that reads the tool calls of a path; a path without calls is read by another format.

    Two lists of calls are the same answer if the names and arguments agree in order, whatever the syntax. The order of
    object keys does not matter, 1 equals 1.0, and arguments given as JSON text equal the parsed object.
    """

    names: frozenset[str]
    """The offered tools; a call of any other tool is plain text."""
    fallback: AnswerFormat | None = None
    """Reads the paths without calls; None: they state no answer."""
    prose: bool = False
    """Paths with neither a call nor an answer vote for PROSE; otherwise they do not vote and a single call wins."""

    @classmethod
    def of(
        cls, tools: Sequence[Mapping[str, JsonValue]], fallback: AnswerFormat, *, must_call: bool
    ) -> "ToolCallFormat":
        """Return the format for tools as in `Messages.tools`. With `must_call`, paths without a call do not vote."""
        return cls(frozenset(tool_names(tools)), None if must_call else fallback, prose=not must_call)

    def extract(self, text: str) -> str | None:
        if calls := _read(text, self.names).calls:
            return json.dumps([call._asdict() for call in calls], ensure_ascii=False)
        stated = None if self.fallback is None else self.fallback.extract(text)
        return PROSE if stated is None and self.prose and text.strip() else stated

    def extract_cut(self, text: str) -> str | None:
        if _read(text, self.names).calls:
            return AnswerFormat.extract_cut(self, text)
        return None if self.fallback is None or _UNFINISHED.search(text) else self.fallback.extract_cut(text)

    def normal(self, answer: str) -> str:
        if calls := self._calls(answer):
            return _canonical(calls)
        return answer if self.fallback is None or answer == PROSE else self.fallback.normal(answer)

    def display(self, answer: str) -> str:
        if calls := self._calls(answer):
            return _canonical(calls)
        return answer if self.fallback is None or answer == PROSE else self.fallback.display(answer)

    def is_symbolic(self, normal: str) -> bool:
        """Return whether the answer may equal another one in a different notation; calls never do."""
        return self.fallback is not None and self.fallback.symbolic and normal != PROSE and not self._calls(normal)

    def _calls(self, answer: str) -> "Sequence[_Call]":
        """Return the calls that an answer in canonical form holds; empty for an answer of the fallback."""
        return _parse_bare(answer, self.names).calls if answer.startswith("[{") else ()


def tool_names(tools: Sequence[Mapping[str, JsonValue]]) -> tuple[str, ...]:
    """Return the names of tools as in `Messages.tools`. Raises ConfigError for a tool without a name."""
    functions = [tool.get("function", tool) for tool in tools]
    names = [function.get("name") if isinstance(function, Mapping) else None for function in functions]
    require(all(isinstance(name, str) for name in names), "tools", "hold a tool without a name", "name each function")
    return tuple(map(str, names))


def split_calls(text: str, names: Collection[str], salt: str = "") -> SplitCalls:
    """Split the calls of the tools in `names` from a text.

    Call ids depend on the text and `salt` alone: pass a path's key as salt if a chat may contain the same text twice. A
    text without calls is returned unchanged; malformed calls and calls of other tools stay in the text.
    """
    content, calls = _read(text, names)
    return SplitCalls(content, tuple(_with_id(call, f"{salt}\n{index}\n{text}") for index, call in enumerate(calls)))


class _Call(NamedTuple):
    name: str
    arguments: dict[str, JsonValue]


class _Reading(NamedTuple):
    content: str
    calls: list[_Call]


class _Decoded(NamedTuple):
    """A JSON value and the index after its last character."""

    value: JsonValue
    end: int


def _read(text: str, names: Collection[str]) -> _Reading:
    """Parse the text with the first syntax that finds calls."""
    readings = (parse(text, names) for parse in (_parse_tagged, _parse_marked, _parse_bare))
    return next((reading for reading in readings if reading.calls), _Reading(text, []))


def _parse_tagged(text: str, names: Collection[str]) -> _Reading:
    kept: list[str] = []
    calls: list[_Call] = []
    at = 0
    for tag in _TAG.finditer(text):
        decoded = _decode(text, tag.end()) if tag.start() >= at else None  # an argument may contain a tag
        closed = None if decoded is None else _TAG_CLOSED.match(text, decoded.end)
        call = None if decoded is None else _as_call(decoded.value, names)
        if call is not None and closed is not None:
            kept.append(text[at : tag.start()])
            calls.append(call)
            at = closed.end()
    return _Reading("".join((*kept, text[at:])).strip(), calls)


def _parse_marked(text: str, names: Collection[str]) -> _Reading:
    for mark in _MARK.finditer(text):
        decoded = _decode(text, mark.end())
        if decoded is not None and isinstance(decoded.value, list):
            calls = _all_calls(decoded.value, names)
            if calls:
                return _Reading((text[: mark.start()] + text[decoded.end :]).strip(), calls)
    return _Reading(text, [])


def _parse_bare(text: str, names: Collection[str]) -> _Reading:
    """Parse a text that consists of calls alone. Without a mark, an object is a call only if it has arguments."""
    values: list[JsonValue] = []
    at = _skip_separators(text, 0)
    while at < len(text):
        decoded = _decode(text, at)
        if decoded is None:
            return _Reading(text, [])
        values += decoded.value if isinstance(decoded.value, list) else [decoded.value]
        at = _skip_separators(text, decoded.end)
    if not all(isinstance(value, dict) and {"arguments", "parameters"} & value.keys() for value in values):
        return _Reading(text, [])
    calls = _all_calls(values, names)
    return _Reading("" if calls else text, calls)


def _skip_separators(text: str, at: int) -> int:
    """Return the index of the next bare value."""
    separators = _AROUND_BARE.match(text, at)
    return at if separators is None else separators.end()


def _all_calls(values: Sequence[JsonValue], names: Collection[str]) -> list[_Call]:
    """Return every value as a call; empty if one of them is not a call."""
    calls = [call for value in values if (call := _as_call(value, names)) is not None]
    return calls if len(calls) == len(values) else []


def _as_call(value: JsonValue, names: Collection[str]) -> _Call | None:
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
    call = _Call(name, arguments)
    try:
        _canonical([call]).encode()
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


def _canonical(calls: Sequence[_Call]) -> str:
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


def _with_id(call: _Call, source: str) -> ToolCall:
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return ToolCall(id=f"call_{digest[:16]}", name=call.name, arguments=json.dumps(call.arguments, ensure_ascii=False))
