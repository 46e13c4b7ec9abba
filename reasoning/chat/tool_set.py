"""The tools that a model may call: their names, the types of their parameters, and the calls that are valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from branchwise.chat.json_schema import Schema, check_schema, fits
from branchwise.chat.literals import decode, literal, parse_expression
from branchwise.core.errors import ConfigError


class Tool(NamedTuple):
    """One tool."""

    name: str
    parameters: Schema
    """JSON schema of the arguments; empty if the tool states none."""
    strict: bool = False
    """Only calls whose arguments fit the schema are calls."""


@dataclass(frozen=True)
class ToolSet:
    """The tools of a prompt."""

    tools: tuple[Tool, ...] = ()
    parallel: bool = True
    """A reply may hold several calls; otherwise only its first one counts."""

    @classmethod
    def of(cls, tools: Sequence[Mapping[str, JsonValue]], *, parallel: bool = True) -> "ToolSet":
        """Return the tools of `Messages.tools`. Raises ConfigError for a tool without a name."""
        return cls(tuple(map(_read_tool, tools)), parallel)

    def check(self) -> None:
        """Raise ConfigError if the schema of a strict tool is invalid; MissingExtraError if it can't be checked."""
        for tool in self.tools:
            if tool.strict:
                check_schema("tools", tool.name, tool.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tools, in order."""
        return tuple(tool.name for tool in self.tools)

    @property
    def loose(self) -> "ToolSet":
        """The same tools, none of which is strict."""
        return ToolSet(tuple(tool._replace(strict=False) for tool in self.tools), self.parallel)

    def accepts(self, name: str, arguments: Mapping[str, JsonValue]) -> bool:
        """Return True if a tool has this name and, if it is strict, these arguments fit its schema."""
        tool = next((tool for tool in self.tools if tool.name == name), None)
        return tool is not None and (not tool.strict or fits(tool.parameters, dict(arguments)))

    def typed(self, name: str, parameter: str, text: str) -> JsonValue:
        """Return an argument that a model wrote as plain text, with the type of the parameter.

        A text that has no such type is returned as it is.
        """
        types = self._types(name, parameter)
        word = text.strip().lower()
        if "string" in types:
            return None if text == "null" and "null" in types else text
        if "null" in types and word in ("null", "none"):
            return None
        if "boolean" in types and word in ("true", "false"):
            return word == "true"
        value = _parse_value(text.strip())
        return text if isinstance(value, str) else value

    def takes_text(self, name: str, parameter: str) -> bool:
        """Return True if the argument may be any text, also an empty one."""
        return "string" in self._types(name, parameter)

    def _types(self, name: str, parameter: str) -> set[str]:
        """Return the types of JSON that a parameter may have; text if the tool does not describe it."""
        tool = next((tool for tool in self.tools if tool.name == name), Tool(name, {}))
        properties = tool.parameters.get("properties")
        schema = properties.get(parameter) if isinstance(properties, dict) else None
        return _types(schema) if isinstance(schema, dict) else {"string"}


def _read_tool(tool: Mapping[str, JsonValue]) -> Tool:
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise ConfigError("tools", "hold a tool without a name", "name each function")
    parameters = function.get("parameters")
    return Tool(name, parameters if isinstance(parameters, dict) else {}, function.get("strict") is True)


def _types(schema: Schema) -> set[str]:
    """Return the types of JSON that a schema allows; all of them if it states none."""
    types = schema.get("type")
    if isinstance(types, str):
        return {types}
    if isinstance(types, list):
        return set(map(str, types))
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list):
            return set().union(*(_types(option) for option in options if isinstance(option, dict)))
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return {"string" if isinstance(value, str) else "any" for value in values}
    return {"any"}


def _parse_value(text: str) -> JsonValue:
    """Return the value of a JSON or Python literal; the text if it is neither."""
    if (decoded := decode(text, 0)) is not None and decoded.end == len(text):
        return decoded.value
    node = parse_expression(text)
    try:
        return text if node is None else literal(node)
    except ValueError:
        return text
