"""Options of a configuration read from text."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import branchwise as bw
from branchwise.core.errors import require
from branchwise.strategies.options import (
    apply_options,
    field_docs,
    format_value,
    join_options,
    options_of,
    split_options,
)


class Colour(Enum):
    RED = "red"
    TWO = 2


@dataclass(frozen=True)
class Base:
    """Inherited fields."""

    depth: int = 3
    """Depth,
    in levels."""
    bare: int = 0


@dataclass(frozen=True)
class Config(Base):
    """Options of every kind, and fields of other types."""

    many: Annotated[int | None, "a number"] = None
    """A number."""
    colour: Colour = Colour.RED
    """A colour."""
    level: Literal[1, 2, "all"] = "all"
    """A level."""
    step: Literal["line", "path"] | int = "line"
    """A step."""
    label: str | None = None
    """A label."""
    depth: int = 4
    """Depth here."""
    sampling: bw.Sampling = field(default_factory=bw.Sampling)
    """Not an option."""
    names: tuple[str, ...] = ()
    """Not an option."""
    derived: int = field(init=False, default=0)
    """Not an option."""

    def __post_init__(self) -> None:
        require(self.depth > 0, "depth", f"is {self.depth}", "use 1 or more")


@given(st.lists(st.text("a,\\=\n", max_size=6), min_size=1, max_size=5))
def test_values_may_contain_commas_and_backslashes(parts: list[str]) -> None:
    assert split_options(join_options(parts)) == parts


def test_other_backslashes_are_kept() -> None:
    assert split_options(r"a\,b,\(c\),d\\,e") == ["a,b", r"\(c\)", "d\\", "e"]


def test_options_are_the_fields_of_plain_types() -> None:
    found = options_of(Config())
    assert list(found) == ["depth", "bare", "many", "colour", "level", "step", "label"]
    assert {option.expected for option in found.values()} == {
        "an integer",
        "an integer or none",
        "red or 2",
        "1, 2 or all",
        "line, path or an integer",
        "a text or none",
    }
    assert options_of(object()) == {}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("many=none", None),
        ("many=3", 3),
        ("colour=2", Colour.TWO),
        ("colour=red", Colour.RED),
        ("level=1", 1),
        ("level=all", "all"),
        ("step=path", "path"),
        ("step=32", 32),
        ("label=a=b", "a=b"),
        ("label=none", None),
        ("label=", ""),
        ("depth= 7 ", 7),
    ],
)
def test_values_are_parsed_by_type(typed: str, value: str | int | Enum | None) -> None:
    name = typed.partition("=")[0]
    changed, normalized = apply_options(Config(), [typed], "field", "it")
    assert getattr(changed, name) == value
    assert type(getattr(changed, name)) is type(value)
    assert normalized == [f"{name}={format_value(value)}"]
    assert apply_options(Config(), normalized, "field", "it") == (changed, normalized)


def test_errors_of_the_configuration_name_the_field() -> None:
    with pytest.raises(bw.ConfigError, match="field: it: depth is 0; use 1 or more"):
        apply_options(Config(), ["depth=0"], "field", "it")


def test_field_docs_are_the_docstrings_below_fields() -> None:
    found = field_docs(Config)
    assert found["depth"] == "Depth here."
    assert field_docs(Base) == {"depth": "Depth, in levels."}
    assert found["label"] == "A label."
    assert "bare" not in found
