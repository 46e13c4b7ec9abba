"""Parsing tool calls in the syntaxes that models use.

`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`    Hermes, Qwen: one tag per call, anywhere in the text
`<function=NAME>{...}</function>`                              Llama 3: anywhere in the text
`<function=NAME><parameter=KEY>TEXT</parameter></function>`    Qwen3-Coder: also within <tool_call>
`[TOOL_CALLS][{"name": ..., "arguments": {...}}]`              Mistral: after the text
`[NAME(KEY=VALUE), ...]`                                       Llama 4: a list in Python's syntax that ends its line
`{"name": ..., "parameters": {...}}`                           Llama: the whole text, also several objects, a list of
                                                               them, or in a ```json fence

JSON may be written as Python writes it, and may end in a brace too many.
"""

import ast
import re
from typing import NamedTuple

from pydantic import JsonValue

from branchwise.chat.call import Call, read_calls
from branchwise.chat.literals import bracket_end, decode, literal, parse_expression
from branchwise.chat.tool_set import ToolSet

_TAG = re.compile(r"<tool_call>\s*|<function=[\"']?(?P<name>[^<>\"'\s]+)[\"']?\s*>\s*")
_FUNCTION = re.compile(r"\s*<function=[\"']?(?P<name>[^<>\"'\s]+)[\"']?\s*>\s*")
# A parameter may lack its closing tag: no value holds the tag of another one.
_PARAMETER = re.compile(
    r"\s*<parameter=[\"']?(?P<key>[^<>\"'\n]+)[\"']?>\n?(?P<text>(?:(?!<parameter=|<function=).)*?)"
    r"(?:\n?</parameter>|(?=\s*<parameter=)|(?=\s*</function>\s*(?:</?tool_call>|<function=|\Z)))",
    re.DOTALL,
)
_TAG_CLOSED = re.compile(r"[\s}]*(?:</tool_call>|\Z)")
_BODY_CLOSED = re.compile(r"[\s}]*(?:</function>(?:\s*</tool_call>)?|\Z)")
_PARAMETERS_CLOSED = re.compile(r"\s*</function>(?:\s*</tool_call>)?")
_MARK = re.compile(r"\[TOOL_CALLS\]\s*")
_LIST = re.compile(
    r"(?:<\|python_(?:tag|start)\|>\s*|^```(?:python|tool_code|tool_call)?[ \t]*\n\s*)?"
    r"(?<![\w)\]])(?<!=)(?<!= )(?P<list>\[)(?=\s*[A-Za-z_][\w.]*\s*\()",
    re.MULTILINE,
)
_LIST_CLOSED = re.compile(r"[ \t]*(?:<\|python_end\|>|\n\s*```)?[ \t]*(?=\r?\n|\Z)")
_AROUND_BARE = re.compile(r"(?:\s|[;,]|```(?:json)?|<\|python_(?:tag|start|end)\|>)*")
_AFTER_BARE = re.compile(r"}*")
_OPEN_LIST = r"\[\s*[A-Za-z_][\w.]*\s*\((?!.*\)\s*\])"
UNFINISHED = re.compile(
    r"<tool_call>(?!.*</tool_call>)|<function=(?!.*</function>)|\[TOOL_CALLS\]|" + _OPEN_LIST + "|"
    r"\A(?:\s|```(?:json)?|<\|python_(?:tag|start)\|>|\[)*\{\s*[\"'](?:name|type|function|parameters|arguments)[\"']\s*:",
    re.DOTALL,
)
"""Text that may become a call when it continues: an open tag, the mark, or the beginning of a list or bare call."""


class ParsedText(NamedTuple):
    """The text without its calls, and the calls; the whole text if it has no calls."""

    content: str
    calls: list[Call]


class _Found(NamedTuple):
    """Calls and the index after their last character."""

    calls: list[Call]
    end: int


def parse_calls(text: str, tools: ToolSet) -> ParsedText:
    """Parse the text with the first syntax that finds calls. The tools may allow one call only: the first one."""
    readings = (parse(text, tools) for parse in (_parse_tagged, _parse_marked, _parse_lists, parse_bare_calls))
    content, calls = next((reading for reading in readings if reading.calls), ParsedText(text, []))
    return ParsedText(content, calls if tools.parallel else calls[:1])


def _parse_tagged(text: str, tools: ToolSet) -> ParsedText:
    kept: list[str] = []
    calls: list[Call] = []
    at = 0
    for tag in _TAG.finditer(text):
        if tag.start() < at:  # an argument may contain a tag
            continue
        found = _function(text, tag, tools) if tag.group("name") else _tagged(text, tag.end(), tools)
        if found is not None and found.calls:
            kept.append(text[at : tag.start()])
            calls += found.calls
            at = found.end
    return ParsedText("".join((*kept, text[at:])).strip(), calls)


def _tagged(text: str, at: int, tools: ToolSet) -> _Found | None:
    """Return the calls after `<tool_call>`; None if the tag does not hold calls alone."""
    calls: list[Call] = []
    while inner := _FUNCTION.match(text, at):
        found = _function(text, inner, tools)
        if found is None:
            return None
        calls += found.calls
        at = found.end
    if calls:
        return _Found(calls, at)
    values = _values(text, at)
    closed = _TAG_CLOSED.match(text, values.end)
    return None if closed is None else _Found(read_calls(values.values, tools), closed.end())


def _function(text: str, tag: re.Match[str], tools: ToolSet) -> _Found | None:
    """Return the call in `<function=NAME>`, whose arguments are an object or parameters."""
    name, at = tag.group("name"), tag.end()
    decoded = decode(text, at)
    if decoded is not None:
        closed = _BODY_CLOSED.match(text, decoded.end)
        values: list[JsonValue] = [{"name": name, "arguments": decoded.value}]
        return None if closed is None else _Found(read_calls(values, tools), closed.end())
    arguments: dict[str, JsonValue] = {}
    while parameter := _PARAMETER.match(text, at):
        key, argument = parameter.group("key").strip(), parameter.group("text")
        if argument.strip() or tools.takes_text(name, key):  # models leave an optional parameter empty
            arguments[key] = tools.typed(name, key, argument)
        at = parameter.end()
    closed = _PARAMETERS_CLOSED.match(text, at)
    return None if closed is None else _Found(read_calls([{"name": name, "arguments": arguments}], tools), closed.end())


def _parse_marked(text: str, tools: ToolSet) -> ParsedText:
    for mark in _MARK.finditer(text):
        decoded = decode(text, mark.end())
        if decoded is not None and isinstance(decoded.value, list):
            calls = read_calls(decoded.value, tools)
            if calls:
                return ParsedText((text[: mark.start()] + text[decoded.end :]).strip(), calls)
    return ParsedText(text, [])


def _parse_lists(text: str, tools: ToolSet) -> ParsedText:
    """Parse lists of calls in Python's syntax. A list within a sentence is no call."""
    kept: list[str] = []
    calls: list[Call] = []
    at = 0
    for start in _LIST.finditer(text):
        end = bracket_end(text, start.start("list")) if start.start() >= at else None
        closed = None if end is None else _LIST_CLOSED.match(text, end)
        if end is None or closed is None:
            continue
        found = _python_calls(text[start.start("list") : end], tools)
        if found:
            kept.append(text[at : start.start()])
            calls += found
            at = closed.end()
    return ParsedText("".join((*kept, text[at:])).strip(), calls)


def _python_calls(source: str, tools: ToolSet) -> list[Call]:
    """Return the calls of a list; empty if one of its items is no call with named literals."""
    node = parse_expression(source)
    values: list[JsonValue] = []
    for item in node.elts if isinstance(node, ast.List) else []:
        if not isinstance(item, ast.Call) or item.args:
            return []
        named = {keyword.arg: keyword.value for keyword in item.keywords if keyword.arg}
        if len(named) < len(item.keywords):  # twice, or unpacked by **
            return []
        try:
            arguments = {name: literal(value) for name, value in named.items()}
        except ValueError:
            return []
        values.append({"name": ast.unparse(item.func), "arguments": arguments})
    return read_calls(values, tools)


class _Values(NamedTuple):
    """Consecutive values and the index after the last one."""

    values: list[JsonValue]
    end: int


def _values(text: str, at: int) -> _Values:
    """Return the objects from `at` on, with those in lists among them."""
    values: list[JsonValue] = []
    end = at
    while (decoded := decode(text, _skip_separators(text, at))) is not None:
        values += decoded.value if isinstance(decoded.value, list) else [decoded.value]
        end = at = decoded.end
        if (surplus := _AFTER_BARE.match(text, at)) is not None:
            at = surplus.end()
    return _Values(values, end)


def parse_bare_calls(text: str, tools: ToolSet) -> ParsedText:
    """Parse a text that consists of calls alone. Without a mark, an object is a call only if it has arguments."""
    values, end = _values(text, 0)
    surplus = _AFTER_BARE.match(text, end)
    end = _skip_separators(text, end if surplus is None else surplus.end())
    is_whole = end == len(text) and all(
        isinstance(value, dict) and {"arguments", "parameters"} & value.keys() for value in values
    )
    calls = read_calls(values, tools) if is_whole else []
    return ParsedText("" if calls else text, calls)


def _skip_separators(text: str, at: int) -> int:
    """Return the index of the next bare value."""
    separators = _AROUND_BARE.match(text, at)
    return at if separators is None else separators.end()
