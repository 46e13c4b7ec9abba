"""Tool calls as answers: the ways in which models write them, and when two paths make the same calls.

`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`    Hermes, Qwen: anywhere in a text, one for each call
`[TOOL_CALLS][{"name": ..., "arguments": {...}}]`              Mistral: after its text
`{"name": ..., "parameters": {...}}`                           Llama: as the whole text, several or a list of them, too,
                                                               also in a ```json fence
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
# What may become a call if the text goes on: an open tag, the mark, a text that begins as a bare call does.
_OPENED = re.compile(
    r"<tool_call>(?!.*</tool_call>)|\[TOOL_CALLS\]"
    r"|\A(?:\s|```(?:json)?|<\|python_tag\|>|\[)*\{\s*\"(?:name|type|function|parameters|arguments)\"\s*:",
    re.DOTALL,
)
PROSE = "(prose)"
"""What a path votes for that says something, and neither calls a tool nor states an answer."""


class Said(NamedTuple):
    """What a text says besides the calls it makes, and those calls."""

    content: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolCalls(AnswerFormat):
    """The tool calls of a path, where it makes any; else what another format reads.

    Calls are the same where their names and arguments are, in order: not by how they are written. Keys of objects
    have no order, 1 is 1.0, and arguments that come as a text of JSON are what that text says.
    """

    names: frozenset[str]
    """The tools on offer: a call of any other is none."""
    fallback: AnswerFormat | None = None
    """Reads the paths that call nothing; None: they state no answer."""
    prose: bool = False
    """Whether those that state no answer have a vote, too, all for PROSE; otherwise a single call outvotes them."""

    @classmethod
    def of(cls, tools: Sequence[Mapping[str, JsonValue]], otherwise: AnswerFormat, *, must_call: bool) -> "ToolCalls":
        """For tools as `Messages.tools` has them. Where one must be called, paths that call none have no vote."""
        return cls(frozenset(tool_names(tools)), None if must_call else otherwise, prose=not must_call)

    def extract(self, text: str) -> str | None:
        if calls := _read(text, self.names).calls:
            return json.dumps([call._asdict() for call in calls], ensure_ascii=False)
        stated = None if self.fallback is None else self.fallback.extract(text)
        return PROSE if stated is None and self.prose and text.strip() else stated

    def extract_cut(self, text: str) -> str | None:
        if _read(text, self.names).calls:
            return AnswerFormat.extract_cut(self, text)
        return None if self.fallback is None or _OPENED.search(text) else self.fallback.extract_cut(text)

    def normal(self, answer: str) -> str:
        if calls := self._calls(answer):
            return _canonical(calls)
        return answer if self.fallback is None or answer == PROSE else self.fallback.normal(answer)

    def display(self, answer: str) -> str:
        if calls := self._calls(answer):
            return _canonical(calls)
        return answer if self.fallback is None or answer == PROSE else self.fallback.display(answer)

    def is_symbolic(self, normal: str) -> bool:
        """Whether an answer may be the same as another one that is written in another way: calls never are."""
        return self.fallback is not None and self.fallback.symbolic and normal != PROSE and not self._calls(normal)

    def _calls(self, answer: str) -> "Sequence[_Call]":
        """The calls that an answer stands for, none where it is one of the other format."""
        return _bare(answer, self.names).calls if answer.startswith("[{") else ()


def tool_names(tools: Sequence[Mapping[str, JsonValue]]) -> tuple[str, ...]:
    """The names of tools as `Messages.tools` has them. Raises ConfigError for one without."""
    functions = [tool.get("function", tool) for tool in tools]
    names = [function.get("name") if isinstance(function, Mapping) else None for function in functions]
    require(all(isinstance(name, str) for name in names), "tools", "hold one without a name", "name each function")
    return tuple(map(str, names))


def split_calls(text: str, names: Collection[str], salt: str = "") -> Said:
    """Take the calls of tools in `names` out of a text.

    Their ids are the same whenever text and `salt` are: give a path's key as salt where a chat may see the same text
    twice. A text without calls is left as it is, and so are calls that are malformed or of tools not on offer.
    """
    content, calls = _read(text, names)
    return Said(content, tuple(_with_id(call, f"{salt}\n{place}\n{text}") for place, call in enumerate(calls)))


class _Call(NamedTuple):
    name: str
    arguments: dict[str, JsonValue]


class _Reading(NamedTuple):
    content: str
    calls: list[_Call]


class _Decoded(NamedTuple):
    """A JSON value, and where it ends."""

    value: JsonValue
    end: int


def _read(text: str, names: Collection[str]) -> _Reading:
    """The calls of a text in the first of the ways in which it makes any."""
    readings = (way(text, names) for way in (_tagged, _marked, _bare))
    return next((reading for reading in readings if reading.calls), _Reading(text, []))


def _tagged(text: str, names: Collection[str]) -> _Reading:
    kept: list[str] = []
    calls: list[_Call] = []
    at = 0
    for tag in _TAG.finditer(text):
        decoded = _decode(text, tag.end()) if tag.start() >= at else None  # a call's own text may hold a tag
        closed = None if decoded is None else _TAG_CLOSED.match(text, decoded.end)
        call = None if decoded is None else _as_call(decoded.value, names)
        if call is not None and closed is not None:
            kept.append(text[at : tag.start()])
            calls.append(call)
            at = closed.end()
    return _Reading("".join((*kept, text[at:])).strip(), calls)


def _marked(text: str, names: Collection[str]) -> _Reading:
    for mark in _MARK.finditer(text):
        decoded = _decode(text, mark.end())
        if decoded is not None and isinstance(decoded.value, list):
            calls = _all_calls(decoded.value, names)
            if calls:
                return _Reading((text[: mark.start()] + text[decoded.end :]).strip(), calls)
    return _Reading(text, [])


def _bare(text: str, names: Collection[str]) -> _Reading:
    """A text that is nothing but calls. Without a mark, an object is a call only where it has arguments."""
    values: list[JsonValue] = []
    at = _after(text, 0)
    while at < len(text):
        decoded = _decode(text, at)
        if decoded is None:
            return _Reading(text, [])
        values += decoded.value if isinstance(decoded.value, list) else [decoded.value]
        at = _after(text, decoded.end)
    if not all(isinstance(value, dict) and {"arguments", "parameters"} & value.keys() for value in values):
        return _Reading(text, [])
    calls = _all_calls(values, names)
    return _Reading("" if calls else text, calls)


def _after(text: str, at: int) -> int:
    """Where the next bare value begins."""
    around = _AROUND_BARE.match(text, at)
    return at if around is None else around.end()


def _all_calls(values: Sequence[JsonValue], names: Collection[str]) -> list[_Call]:
    """Every value as a call; none where one of them is no call."""
    calls = [call for value in values if (call := _as_call(value, names)) is not None]
    return calls if len(calls) == len(values) else []


def _as_call(value: JsonValue, names: Collection[str]) -> _Call | None:
    if not isinstance(value, dict):
        return None
    name, given = value.get("name"), value.get("arguments", value.get("parameters"))
    if isinstance(given, str) and given.strip():
        decoded = _decode(given, len(given) - len(given.lstrip()))
        given = decoded.value if decoded is not None and not given[decoded.end :].strip() else given
    elif given is None or isinstance(given, str):
        given = {}  # a tool without arguments
    if not isinstance(name, str) or name not in names or not isinstance(given, dict):
        return None
    call = _Call(name, given)
    try:
        _canonical([call]).encode()
    except (UnicodeEncodeError, RecursionError):  # half a character; a depth that nothing could write
        return None
    return call


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _decode(text: str, at: int) -> _Decoded | None:
    """The JSON object or list that begins at `at`."""
    if text[at : at + 1] not in ("{", "["):
        return None
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return _Decoded(value, end)


def _canonical(calls: Sequence[_Call]) -> str:
    """Calls in their one form."""
    return json.dumps([{"name": call.name, "arguments": _normal(call.arguments)} for call in calls], ensure_ascii=False)


def _normal(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {key: _normal(value[key]) for key in sorted(value)}
        case list():
            return [_normal(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _with_id(call: _Call, occasion: str) -> ToolCall:
    digest = hashlib.sha256(occasion.encode("utf-8", "surrogatepass")).hexdigest()
    return ToolCall(id=f"call_{digest[:16]}", name=call.name, arguments=json.dumps(call.arguments, ensure_ascii=False))
