"""Options: the plain-valued fields of a frozen configuration, read from text such as `window=4,stop_at=none`.

The registries of strategies and verifiers build on it to parse `name:key=value,key=value`.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from branchwise.core.errors import ConfigError
from branchwise.core.validation import suggestion

Configured = TypeVar("Configured")
Value = str | int | float | bool | Enum | None

_KINDS: Mapping[object, tuple[str, ...]] = {
    int: ("an integer",),
    float: ("a number",),
    bool: ("true", "false"),
    str: ("a text",),
    NoneType: ("none",),
}
_FINITE = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Option:
    """One option and its current value."""

    name: str
    kinds: tuple[object, ...]
    """The members of its type if that is a union; a Literal or an Enum is replaced by its values."""
    value: Value

    @property
    def expected(self) -> str:
        """Return a description of the valid values."""
        words = [word for kind in self.kinds for word in _KINDS.get(kind) or (format_value(kind),)]  # type: ignore[arg-type]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))

    def parse(self, text: str) -> Value:
        """Return the value of a text. Raises ValueError if the option has no such value."""
        for kind in self.kinds:
            if kind is NoneType and text == "none":
                return None
            if kind not in _KINDS and format_value(kind) == text:  # type: ignore[arg-type]
                return kind  # type: ignore[return-value]
        for kind in self.kinds:
            if kind in _KINDS and kind is not NoneType:
                try:
                    return TypeAdapter[Value](kind, config=_FINITE).validate_strings(text)  # type: ignore[arg-type]
                except ValidationError:
                    continue
        raise ValueError(text)


def format_value(value: Value) -> str:
    """Return a value as a user types it."""
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def options_of(config: object) -> dict[str, Option]:
    """Return the options of a dataclass by name. Fields of other types, such as Sampling, are not options."""
    if not is_dataclass(config):
        return {}
    hints = get_type_hints(type(config), include_extras=True)
    found = {}
    for each in fields(config):
        kinds = tuple(dict.fromkeys(_kinds(hints[each.name])))
        if each.init and all(kind in _KINDS or isinstance(kind, str | int | Enum) for kind in kinds):
            found[each.name] = Option(each.name, kinds, getattr(config, each.name))
    return found


def uses_verifier(config: object) -> bool:
    """Return whether a strategy calls the run's verifier: one of its options is `verifier`, as in value=verifier."""
    return any(option.value == "verifier" for option in options_of(config).values())


def _kinds(hint: object) -> Iterator[object]:
    """Yield the plain types and the values that a type hint allows."""
    if get_origin(hint) is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            yield from _kinds(member)
    elif get_origin(hint) is Literal:
        yield from get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield from hint
    else:
        yield hint


def split_options(text: str) -> list[str]:
    r"""Return the parts between commas. `\,` is a comma within a part, and `\\` is a backslash."""
    parts = re.findall(r"((?:\\[,\\]|[^,])*),", text + ",")
    return [re.sub(r"\\([,\\])", r"\1", part) for part in parts]


def join_options(parts: Sequence[str]) -> str:
    """Return the text that `split_options` splits into `parts`."""
    return ",".join(re.sub(r"[,\\]", r"\\\g<0>", part) for part in parts)


def apply_options(config: Configured, given: Sequence[str], field: str, name: str) -> tuple[Configured, list[str]]:
    """Return `config` with options such as `window=4` set, and the options normalized and in field order.

    Raises ConfigError about `field` if `name`, the configured object, has no such option, an option is given twice,
    or a value is invalid.
    """
    known = options_of(config)
    values: dict[str, Value] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(field, f"{name}: {text!r} has no value", "write option=value")
        if key not in known:
            raise ConfigError(field, f"{name} has no option {key!r}", _suggestion(key, known))
        if key in values:
            raise ConfigError(field, f"{name}: {key} is given twice", "give it once")
        try:
            values[key] = known[key].parse(value)
        except ValueError as error:
            raise ConfigError(field, f"{name}: {key} is {value!r}", f"use {known[key].expected}") from error
    try:
        changed: Configured = replace(config, **values)  # type: ignore[type-var]  # a config with options is a dataclass
    except ConfigError as error:
        raise ConfigError(field, f"{name}: {error.field} {error.problem}", error.fix) from error
    return changed, [f"{key}={format_value(values[key])}" for key in known if key in values]


def _suggestion(key: str, known: Mapping[str, Option]) -> str:
    """Return the fix for an unknown option."""
    if not known:
        return "leave it out: it has none"
    return f"{suggestion(key, known, '')} it has {', '.join(known)}".lstrip()


def field_docs(config: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class and its bases; empty if the sources are unavailable."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if is_dataclass(base):
            found |= _own_field_docs(base)
    return found


def _own_field_docs(config: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):
        return {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found
