"""Checks of values that users pass, and the first field that pydantic rejects, for the text of a ConfigError."""

import contextlib
import difflib
import math
import operator
from collections.abc import Iterable
from typing import NamedTuple, SupportsFloat, SupportsIndex

from pydantic import ValidationError

from branchwise.core.errors import ConfigError

_MAX_SHOWN = 60  # characters of an invalid value that an error repeats


class FieldError(NamedTuple):
    """A field that pydantic rejected."""

    field: str
    """Dotted path of the field; "" for the whole value."""
    message: str
    """Pydantic's message."""
    kind: str
    """Pydantic's error type, such as "missing"."""
    value: object
    """The rejected value."""
    cause: Exception | None
    """The exception that a validator raised."""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def first_field_error(error: ValidationError) -> FieldError:
    """Return the first rejected field."""
    first = error.errors(include_url=False)[0]
    return FieldError(
        field=".".join(map(str, first["loc"])),
        message=first["msg"],
        kind=first["type"],
        value=first["input"],
        cause=first.get("ctx", {}).get("error"),
    )


def shortened(value: object) -> str:
    """Return a value as errors show it: on one line."""
    shown = repr(value).replace("\n", " ")
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 1]}…"


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the closest known name as the fix for an unknown one; `otherwise` if none is close."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def whole_number(field: str, value: object, fix: str) -> int:
    """Return an integer of any type (numpy's included) as int. Raises ConfigError for other values and booleans."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        with contextlib.suppress(TypeError):  # of an array
            return operator.index(value)
    raise wrong_type(field, value, fix)


def finite_number(field: str, value: object, fix: str) -> float:
    """Return a finite number. Raises ConfigError for other values, booleans and text."""
    if isinstance(value, SupportsFloat) and not isinstance(value, bool):
        with contextlib.suppress(TypeError, OverflowError):  # of an array, or an integer beyond all floats
            if math.isfinite(value):
                return value if isinstance(value, int | float) else float(value)
    raise wrong_type(field, value, fix)


def wrong_type(field: str, value: object, fix: str) -> ConfigError:
    """Return the error for a value of a type that a field does not take."""
    return ConfigError(field, f"is {shortened(value)}, of type {type(value).__name__}", fix)
