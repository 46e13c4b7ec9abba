"""Verifiers, as text describes them."""

import asyncio
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.core.question import as_messages
from branchwise.driver import Verifier
from branchwise.registry import STRATEGIES, make_strategy
from branchwise.strategies.options import uses_verifier
from branchwise.verifiers.game24 import Game24
from branchwise.verifiers.programs import DocstringExamples
from branchwise.verifiers.registry import verifier

CHECKS = """
from dataclasses import dataclass

import beside


def length(path):
    return len(path.answer_text) / beside.LONGEST


async def later(path):
    return 0.25


@dataclass
class Scale:
    by: float

    def __call__(self, path):
        return self.by

    def score(self, path):
        return 2 * self.by


half = Scale(0.5)
NUMBER = 3


def two(path, other):
    return 0.0


def none():
    return 0.0
"""


def ignore(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""


def made(spec: str) -> Verifier:
    found = verifier(spec)
    assert found.name == spec
    return found.make(ignore)


def score(check: Verifier, text: str = "four") -> float:
    root = bw.Path(None, 1, (), "", messages=as_messages("q"))
    found = check(bw.Path(root, 2, (1,), text, (len(text),)))
    return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(found: object) -> float:
    return await found  # type: ignore[misc,no-any-return]


def refused(spec: str) -> str:
    with pytest.raises(bw.ConfigError) as refusal:
        verifier(spec)
    assert refusal.value.field == "verifier"
    return str(refusal.value)


@pytest.fixture
def checks(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[FilePath]:
    """A folder of the user's, with a file of verifiers and a module that it imports."""
    (tmp_path / "my_checks.py").write_text(CHECKS)
    (tmp_path / "beside.py").write_text("LONGEST = 8\n")
    (tmp_path / "broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_names_of_the_registry() -> None:
    assert made("examples") == DocstringExamples()
    assert made("game24") == Game24()


@pytest.mark.parametrize("place", ["my_checks.py", "my_checks", "{folder}/my_checks.py", "./my_checks.py"])
def test_functions_and_objects_of_a_file_or_a_module(checks: FilePath, place: str) -> None:
    place = place.format(folder=checks)
    assert score(made(f"{place}:length")) == 0.5
    assert score(made(f"{place}:later")) == 0.25
    assert score(made(f"{place}:half")) == 0.5
    assert score(made(f"{place}:half.score")) == 1.0


def test_what_is_installed_goes_before_the_current_folder(checks: FilePath) -> None:
    sys.modules.pop("json", None)
    assert made("json:loads").__module__ == "json"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("exampels", "'exampels' is unknown; did you mean examples?"),
        ("nonesuch", "use examples, game24, reward:MODEL, or a function as MODULE:FUNCTION or FILE.py:FUNCTION"),
        ("no_such_module:check", "there is no module no_such_module; install it, run in its folder"),
        ("my_checks.deeper:check", "there is no module my_checks.deeper"),
        ("nowhere/checks.py:check", "there is no file nowhere/checks.py; check its path"),
        ("my_checks:lenth", "my_checks has no lenth; did you mean length?"),
        ("my_checks.py:half.nothing_like_it", "my_checks.py has no half.nothing_like_it; name a function that it"),
        ("my_checks:NUMBER", "my_checks:NUMBER is not a function but int"),
        ("my_checks:Scale", "is a class; name a function, or an object made of the class"),
        ("my_checks:two", "can't be called with one Path (missing a required argument: 'other')"),
        ("my_checks:none", "can't be called with one Path (too many positional arguments)"),
        ("broken:check", "broken can't be imported (ModuleNotFoundError: No module named 'no_such_module_at_all')"),
        ("broken.py:check", "broken.py can't be imported (ModuleNotFoundError"),
        (":check", "':check' has no function"),
        ("my_checks:", "'my_checks:' has no function"),
        ("reward:", "reward: has no model"),
        ("reward:nowhere", "reward model: 'nowhere' is unknown; use a local folder, or a hub id"),
        ("reward:owner/name,reduce=most", "reward: reduce is 'most'; use last, min or product"),
        ("reward:owner/name,batch=0", "reward: batch is 0; use at least 1"),
        ("reward:owner/name,width=2", "reward has no option 'width'; it has reduce, batch, device, dtype"),
    ],
)
def test_what_is_wrong_is_said(checks: FilePath, spec: str, said: str) -> None:
    assert said in refused(spec)


def test_a_reward_model_is_named_with_its_options_and_loaded_lazily() -> None:
    assert verifier("reward: owner/name, batch=4,reduce=min".replace(" ", "")).name == (
        "reward:owner/name,reduce=min,batch=4"
    )


def test_what_is_no_classifier_is_refused_when_it_is_loaded(tiny_model_folder: FilePath) -> None:
    found = verifier(f"reward:{tiny_model_folder}", device="cpu")
    with pytest.raises(bw.ModelError, match="has LlamaForCausalLM, which is not a classifier"):
        found.make(ignore)


def test_strategies_that_ask_a_verifier_are_known_by_their_options() -> None:
    searches = [name for name in STRATEGIES if "value" in dir(STRATEGIES[name](4, bw.Sampling()))]
    assert "best-of-n" in searches
    for name in searches:
        assert uses_verifier(make_strategy(f"{name}:value=verifier", 4, bw.Sampling()))
    assert not any(uses_verifier(make_strategy(name, 4, bw.Sampling())) for name in STRATEGIES)


def test_a_strategy_takes_what_a_spec_describes(checks: FilePath) -> None:
    backend = ScriptedBackend({"": ["The answer is 1.", "So the answer is 22."]})
    chosen = make_strategy("best-of-n:value=verifier,paths=2", 2, bw.Sampling())
    result = bw.solve_sync("q", backend, strategy=chosen, verifier=made("my_checks.py:length"))
    assert (result.answer, result.errors) == ("22", ())
