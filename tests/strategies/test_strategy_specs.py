"""Strategies with options, as text describes them."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import branchwise as bw
from branchwise.core.errors import require
from branchwise.registry import STRATEGIES, named, strategy
from branchwise.strategies.spec import documentation, joined, options, spelled, split, with_options

SAMPLING = bw.Sampling(temperature=0.9)


def made(spec: str) -> tuple[str, object]:
    return tuple(named(spec, 16, SAMPLING))


def refused(spec: str) -> str:
    with pytest.raises(bw.ConfigError) as refusal:
        strategy(spec, 16, SAMPLING)
    assert refusal.value.field == "strategy"
    return str(refusal.value)


class Colour(Enum):
    RED = "red"
    TWO = 2


@dataclass(frozen=True)
class Base:
    """What is inherited."""

    depth: int = 3
    """How deep,
    in levels."""
    bare: int = 0


@dataclass(frozen=True)
class Config(Base):
    """Options of every kind, and fields that are none."""

    many: Annotated[int | None, "how many"] = None
    """Or none."""
    colour: Colour = Colour.RED
    """Of the thing."""
    level: Literal[1, 2, "all"] = "all"
    """Which."""
    step: Literal["line", "path"] | int = "line"
    """Where."""
    label: str | None = None
    """Said."""
    depth: int = 4
    """How deep here."""
    sampling: bw.Sampling = field(default_factory=bw.Sampling)
    """No option."""
    names: tuple[str, ...] = ()
    """No option."""
    made: int = field(init=False, default=0)
    """No option."""

    def __post_init__(self) -> None:
        require(self.depth > 0, "depth", f"is {self.depth}", "use 1 or more")


def test_a_name_alone_is_the_default() -> None:
    for name in STRATEGIES:
        assert made(name) == (name, STRATEGIES[name](16, SAMPLING))


def test_options_are_set_on_what_the_registry_makes() -> None:
    name, plain = made("path-consistency-plain:window=4")
    assert name == "path-consistency-plain:window=4"
    expected = bw.PathConsistency(16, window=4, root_share=0.0, step_back=False, stop_at=None, sampling=SAMPLING)
    assert plain == expected
    assert made("self-consistency:paths=3") == ("self-consistency:paths=3", bw.SelfConsistency(3, SAMPLING))


def test_specs_of_one_configuration_have_one_name() -> None:
    typed = "path-consistency: stop-at=none,window= 4,threshold=0.90,step_back=NO"
    name, one = made(typed)
    assert name == "path-consistency:window=4,threshold=0.9,step_back=false,stop_at=none"
    assert made(name) == (name, one)
    assert one == bw.PathConsistency(16, 4, threshold=0.9, step_back=False, stop_at=None, sampling=SAMPLING)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("path-consistncy:window=4", "'path-consistncy' is unknown; did you mean path-consistency?"),
        ("path-consistency:windows=4", "has no option 'windows'; did you mean window? it has paths, window, max_level"),
        ("path-consistency:sampling=4", "has no option 'sampling'; it has paths, window"),
        ("greedy:paths=4", "greedy has no option 'paths'; leave it out: it has none"),
        ("path-consistency:window=four", "path-consistency: window is 'four'; use an integer"),
        ("path-consistency:window=4.5", "window is '4.5'; use an integer"),
        ("path-consistency:window=none", "window is 'none'; use an integer"),
        ("path-consistency:stop_at=never", "stop_at is 'never'; use a number or none"),
        ("path-consistency:stop_at=nan", "stop_at is 'nan'; use a number or none"),
        ("path-consistency:step_back=maybe", "step_back is 'maybe'; use true or false"),
        ("weighted-vote:trust=max", "trust is 'max'; use mean, min, product or p-true"),
        ("path-consistency:window", "'window' is no option with a value; write option=value"),
        ("path-consistency:", "'' is no option with a value"),
        ("path-consistency:window=4,", "'' is no option with a value"),
        ("path-consistency:max-level=1,max_level=2", "max_level is given twice; give it once"),
        ("path-consistency:window=0", "path-consistency: window is 0; use at least 1"),
    ],
)
def test_what_is_wrong_is_said(spec: str, said: str) -> None:
    assert said in refused(spec)


@given(st.lists(st.text("a,\\=\n", max_size=6), min_size=1, max_size=5))
def test_values_may_hold_commas_and_backslashes(parts: list[str]) -> None:
    assert split(joined(parts)) == parts


def test_a_backslash_elsewhere_is_one() -> None:
    assert split(r"a\,b,\(c\),d\\,e") == ["a,b", r"\(c\)", "d\\", "e"]


def test_options_are_the_fields_of_plain_types() -> None:
    found = options(Config())
    assert list(found) == ["depth", "bare", "many", "colour", "level", "step", "label"]
    assert {option.expected for option in found.values()} == {
        "an integer", "an integer or none", "red or 2", "1, 2 or all", "line, path or an integer", "a text or none"
    }  # fmt: skip
    assert options(object()) == {}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("many=none", None), ("many=3", 3), ("colour=2", Colour.TWO), ("colour=red", Colour.RED), ("level=1", 1),
        ("level=all", "all"), ("step=path", "path"), ("step=32", 32), ("label=a=b", "a=b"), ("label=none", None),
        ("label=", ""), ("depth= 7 ", 7),
    ],
)  # fmt: skip
def test_values_are_read_by_type(typed: str, value: object) -> None:
    name = typed.partition("=")[0]
    changed, said = with_options(Config(), [typed], "field", "it")
    assert getattr(changed, name) == value
    assert type(getattr(changed, name)) is type(value)
    assert said == [f"{name}={spelled(value)}"]
    assert with_options(Config(), said, "field", "it") == (changed, said)


def test_its_own_checks_run() -> None:
    with pytest.raises(bw.ConfigError, match="field: it: depth is 0; use 1 or more"):
        with_options(Config(), ["depth=0"], "field", "it")


def test_documentation_is_what_stands_under_a_field() -> None:
    found = documentation(Config)
    assert found["depth"] == "How deep here."
    assert documentation(Base) == {"depth": "How deep, in levels."}
    assert found["label"] == "Said."
    assert "bare" not in found


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_option_in_the_registry_is_documented_and_takes_its_own_value(name: str) -> None:
    made_so = STRATEGIES[name](16, SAMPLING)
    found, said = options(made_so), documentation(type(made_so))
    assert [option for option in found if not said.get(option)] == []
    spec = f"{name}:{joined([f'{option.name}={spelled(option.value)}' for option in found.values()])}"
    if found:
        assert made(spec) == (spec, made_so)
