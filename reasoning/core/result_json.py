"""Types of a result's fields whose JSON differs from their Python form."""

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
)

from branchwise.core.path import Path

_OWN_FIELDS = tuple(field.name for field in fields(Path) if field.name != "parent")


class RecordedObject(BaseModel):
    """An object of a type that the reader of a record did not name; it has the fields of the record."""

    model_config = ConfigDict(extra="allow", frozen=True)


def path_content(path: Path) -> tuple[tuple[object, ...], ...]:
    """Return what distinguishes a path from others: the fields of its prompt and of every segment."""
    return tuple(tuple(getattr(segment, name) for name in _OWN_FIELDS) for segment in _chain(path))


def _chain(path: Path) -> Iterator[Path]:
    yield path.root
    yield from path.segments()


@cache
def _segments() -> TypeAdapter[list[Path]]:
    """Build the validator on first use, because that takes longer than the import of this module."""
    return TypeAdapter(list[Path])


def _to_segments(path: Path) -> list[Path]:
    """Return the prompt and the segments without parents: a nested record would be as deep as the path is long."""
    return [replace(segment, parent=None) for segment in _chain(path)]


def _from_segments(value: object) -> Path:
    """Return a path, made of its recorded segments if it is not one already."""
    if isinstance(value, Path):
        return value
    root, *rest = _segments().validate_python(value)
    path = root
    for segment in rest:
        path = replace(segment, parent=path)
    return path


def _to_object(value: object, info: ValidationInfo) -> object:
    """Return an object of the type that the context names, or a RecordedObject."""
    if value is None or isinstance(value, BaseModel):
        return value
    model: type[BaseModel] = (info.context or {}).get("answer_type") or RecordedObject
    return model.model_validate(value)


JsonPath = Annotated[Path, BeforeValidator(_from_segments), PlainSerializer(_to_segments, return_type=list[Path])]
"""A path as the list of its prompt and its segments."""
JsonObject = Annotated[SerializeAsAny[BaseModel], BeforeValidator(_to_object)]
"""An object of any pydantic model as its fields."""
