"""Field errors read from pydantic."""

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, field_validator

from branchwise.core.errors import ConfigError, require
from branchwise.core.validation import FieldError, first_field_error


class Inner(BaseModel):
    count: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: tuple[Inner, ...] = ()
    positive: int = 1

    @field_validator("positive")
    @classmethod
    def _check(cls, value: int) -> int:
        require(value > 0, "positive", f"is {value}", "use at least 1")
        return value


def rejected(values: object) -> FieldError:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    return first_field_error(caught.value)


def test_nested_field_has_a_dotted_path() -> None:
    first = rejected({"inner": [{"count": 1}, {"count": "x"}]})
    assert (first.field, first.value, first.kind) == ("inner.1.count", "x", "int_parsing")
    assert str(first).startswith("inner.1.count: Input should be a valid integer")


@pytest.mark.parametrize(
    ("values", "field", "kind"), [({"inner": [{}]}, "inner.0.count", "missing"), ({"no": 1}, "no", "extra_forbidden")]
)
def test_missing_and_unknown_fields_have_their_own_kind(values: object, field: str, kind: str) -> None:
    first = rejected(values)
    assert (first.field, first.kind) == (field, kind)


def test_cause_is_the_exception_of_a_validator() -> None:
    first = rejected({"positive": 0})
    assert isinstance(first.cause, ConfigError)
    assert first.cause.fix == "use at least 1"


def test_error_about_the_whole_value_has_no_field() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(tuple[int, ...]).validate_python({})
    first = first_field_error(caught.value)
    assert (first.field, str(first)) == ("", "Input should be a valid tuple")
