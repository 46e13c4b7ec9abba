"""Options: the fields of a configuration that are plain values, set by text (`window=4,stop_at=none`)."""

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from branchwise.core.errors import ConfigError

Configured = TypeVar("Configured")
Value = str | int | float | bool | Enum | None

_KINDS: Mapping[object, tuple[str, ...]] = {
    int: ("an integer",), float: ("a number",), bool: ("true", "false"), str: ("a text",), NoneType: ("none",),
}  # fmt: skip
_FINITE = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Option:
    """One option, and the value it has."""

    name: str
    kinds: tuple[object, ...]
    """Its type; several where it is a union. The members of a Literal or an Enum stand for it."""
    value: Value

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        words = [word for kind in self.kinds for word in _KINDS.get(kind) or (spelled(kind),)]  # type: ignore[arg-type]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))

    def read(self, text: str) -> Value:
        """The value that a text stands for. Raises ValueError."""
        for kind in self.kinds:
            if kind is NoneType and text == "none":
                return None
            if kind not in _KINDS and spelled(kind) == text:  # type: ignore[arg-type]
                return kind  # type: ignore[return-value]
        for kind in self.kinds:
            if kind in _KINDS and kind is not NoneType:
                try:
                    return TypeAdapter[Value](kind, config=_FINITE).validate_strings(text)  # type: ignore[arg-type]
                except ValidationError:
                    continue
        raise ValueError(text)


def spelled(value: Value) -> str:
    """A value as it is typed."""
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def options(config: object) -> dict[str, Option]:
    """The options of a dataclass, by name. Fields that are objects of their own are none."""
    if not is_dataclass(config):
        return {}
    hints = get_type_hints(type(config), include_extras=True)
    found = {}
    for each in fields(config):
        kinds = tuple(dict.fromkeys(_kinds(hints[each.name])))
        if each.init and all(kind in _KINDS or isinstance(kind, str | int | Enum) for kind in kinds):
            found[each.name] = Option(each.name, kinds, getattr(config, each.name))
    return found


def _kinds(hint: object) -> Iterator[object]:
    """The plain types and values that a type stands for."""
    if get_origin(hint) is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for one in get_args(hint):
            yield from _kinds(one)
    elif get_origin(hint) is Literal:
        yield from get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield from hint
    else:
        yield hint


def split(text: str) -> list[str]:
    r"""The parts between commas; `\,` is a comma within a part, and `\\` a backslash."""
    parts = re.findall(r"((?:\\[,\\]|[^,])*),", text + ",")
    return [re.sub(r"\\([,\\])", r"\1", part) for part in parts]


def joined(parts: Sequence[str]) -> str:
    """What `split` takes apart."""
    return ",".join(re.sub(r"[,\\]", r"\\\g<0>", part) for part in parts)


def with_options(config: Configured, given: Sequence[str], field: str, name: str) -> tuple[Configured, list[str]]:
    """The configuration with options (`window=4`) set, and those as they are spelled, in their own order.

    Raises ConfigError about `field` for an option that `name`, which is being configured, has not, that is given
    twice, or whose value makes no sense.
    """
    known = options(config)
    values: dict[str, Value] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(field, f"{name}: {text!r} is no option with a value", "write option=value")
        if key not in known:
            raise ConfigError(field, f"{name} has no option {key!r}", _instead(key, known))
        if key in values:
            raise ConfigError(field, f"{name}: {key} is given twice", "give it once")
        try:
            values[key] = known[key].read(value)
        except ValueError as error:
            raise ConfigError(field, f"{name}: {key} is {value!r}", f"use {known[key].expected}") from error
    try:
        changed: Configured = replace(config, **values)  # type: ignore[type-var]  # what has options is a dataclass
    except ConfigError as error:
        raise ConfigError(field, f"{name}: {error.field} {error.problem}", error.fix) from error
    return changed, [f"{key}={spelled(values[key])}" for key in known if key in values]


def _instead(key: str, known: Mapping[str, Option]) -> str:
    if not known:
        return "leave it out: it has none"
    near = difflib.get_close_matches(key, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"it has {', '.join(known)}"


def documentation(config: type) -> dict[str, str]:
    """What stands under each field of a class and its bases in their sources; nothing where there are none."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if is_dataclass(base):
            found |= _documented(base)
    return found


def _documented(config: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):
        return {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, under in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(under, ast.Expr):
            text = under.value.value if isinstance(under.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found
