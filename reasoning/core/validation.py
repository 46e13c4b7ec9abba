"""The first field that pydantic rejects, for the text of a ConfigError."""

from typing import NamedTuple

from pydantic import ValidationError

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
    """Return a value as errors show it."""
    shown = repr(value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 1]}…"
