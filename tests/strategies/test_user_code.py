"""Strategies in the user's own code, by MODULE:CLASS and FILE.py:CLASS."""

import os
import sys
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends import ScriptedBackend
from branchwise.registry import check_named, make_strategy, parse_strategy
from branchwise.strategies.options import options_of

SAMPLING = bw.Sampling(temperature=0.9)

OWN = """
from dataclasses import dataclass, field

import branchwise as bw


@dataclass(frozen=True)
class Own(bw.PerQuestion[bw.Samples]):
    name = "own"
    paths: int = 3
    extra: bool = False
    sampling: bw.Sampling = field(default_factory=bw.Sampling)

    def initial_state(self, root):
        return bw.Samples(root)

    def next_actions(self, samples):
        return samples.sample_once(self.paths + self.extra, self.sampling)

    def decide(self, samples):
        return samples.majority()


class Plain(Own):
    def __init__(self):
        super().__init__(2)


class Strict(Own):
    def __init__(self, needed):
        super().__init__(needed)


ready = Own(7)
NUMBER = 3


class Other:
    pass


class Unfinished(bw.PerQuestion[bw.Samples]):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user with strategies in a file, as the current one."""
    (tmp_path / "my_strategies.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("place", ["my_strategies.py", "my_strategies", "{folder}/my_strategies.py"])
def test_a_strategy_of_a_file_or_a_module(own: Path, place: str) -> None:
    place = place.format(folder=own)
    name, strategy = parse_strategy(f"{place}:Own:extra=true", 5, SAMPLING)
    options = options_of(strategy)
    assert (name, options["paths"].value, options["extra"].value) == (f"{place}:Own:extra=true", 5, True)
    result = bw.solve_sync("q", ScriptedBackend({"": ["42"]}), strategy=f"{place}:Own:paths=2,extra=true")
    assert len(result.paths) == 3
    assert options_of(make_strategy(f"{place}:Own", None, SAMPLING))["paths"].value == 3
    assert options_of(make_strategy(f"{place}:ready", 5, SAMPLING))["paths"].value == 7
    assert options_of(make_strategy(f"{place}:Plain", 5, SAMPLING))["paths"].value == 2


def test_a_file_is_run_again_only_if_it_changed(own: Path) -> None:
    first, second = (make_strategy("my_strategies.py:Own", 5, SAMPLING) for _ in range(2))
    assert type(first) is type(second)
    file = own / "my_strategies.py"
    file.write_text(OWN.replace('name = "own"', 'name = "mine"'))
    os.utime(file, ns=(1, 1))
    assert make_strategy("my_strategies.py:Own", 5, SAMPLING).name == "mine"


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("my_strategies.py", "'my_strategies.py' has no class; write MODULE:CLASS or FILE.py:CLASS"),
        ("my_strategies:Othr", "my_strategies has no Othr; did you mean Other?"),
        ("my_strategies.py:NUMBER", "my_strategies.py:NUMBER is not a strategy but of type int; name a class derived"),
        ("my_strategies:Other", "my_strategies:Other is not a strategy but another class"),
        ("my_strategies:Strict", "can't be made (TypeError: Strict.__init__() missing 1 required positional argument"),
        ("my_strategies:Unfinished", "can't be made (TypeError: Can't instantiate abstract class Unfinished"),
        ("my_strategies:Own:extra=2", "my_strategies:Own: extra is '2'; use true or false"),
        ("no_such_module:Own", "there is no module no_such_module"),
        ("nowhere/own.py:Own", "there is no file nowhere/own.py; check its path"),
    ],
)
def test_what_is_no_strategy_of_ones_own_is_explained(own: Path, spec: str, error: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        make_strategy(spec, 16, SAMPLING)
    assert str(caught.value).startswith("strategy: ")
    assert error in str(caught.value)


@pytest.mark.parametrize("spec", ["my_strategies:Own", "my_strategies.py:Own", "my_strategies.py:Own:paths=2"])
def test_names_from_the_network_load_no_code(own: Path, spec: str) -> None:
    with pytest.raises(bw.ConfigError, match=r"^strategy: 'my_strategies\S*' is unknown; use one of"):
        check_named(spec)
    assert not any("my_strategies" in name for name in sys.modules)
    check_named("esc:window=4")
