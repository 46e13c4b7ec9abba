"""Errors that reach the user survive pickle, copies and process pools."""

import concurrent.futures
import contextlib
import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from collections.abc import Iterator
from functools import partial

import pytest

import branchwise
import branchwise.backends
import branchwise.prompts
import branchwise.search
from branchwise.core.errors import BranchwiseError, CallError, MissingExtraError

VALUES = {
    "Mapping": {"retry-after": "3"},
    "Exception": ValueError("inner"),
    "str": "some text",
    "bool": True,
    "int": 7,
    "float": 0.5,
}
"""An argument for each type in the annotations of constructors."""


def import_all() -> None:
    """Import every module of branchwise, except those whose optional packages are missing."""
    for package in (branchwise, branchwise.backends, branchwise.search, branchwise.prompts):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def subclasses(kind: type[BranchwiseError]) -> Iterator[type[BranchwiseError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("branchwise."):
            yield from subclasses(child)


def example(kind: type[BranchwiseError]) -> BranchwiseError:
    """Return an error made by the constructor of the class, with a value for every parameter."""
    if kind.__init__ is Exception.__init__:
        return kind(VALUES["str"])
    positional, named = [], {}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = next(value for kind, value in VALUES.items() if kind in str(parameter.annotation))
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value
        else:
            positional.append(value)
    return kind(*positional, **named)


import_all()
KINDS = sorted(set(subclasses(BranchwiseError)), key=lambda kind: kind.__qualname__)


def same(copied: BaseException, error: BaseException) -> bool:
    """Return whether a copy has the type, the message and the attributes of an error."""
    return (type(copied), str(copied), copied.args, vars(copied)) == (type(error), str(error), error.args, vars(error))


def fail(error: BranchwiseError) -> None:
    raise error


def test_every_error_of_the_module_is_found() -> None:
    names = {kind.__name__ for kind in KINDS}
    documented = {"ConfigError", "ModelError", "MissingExtraError", "BudgetError", "SandboxError", "CallError"}
    assert documented | {"BackendError", "ServerError", "HTTPError"} <= names


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_pickled_and_copied(kind: type[BranchwiseError]) -> None:
    error = example(kind)
    error.add_note("a note")
    assert str(error)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(error, protocol)), error)
    assert same(copy.copy(error), error)
    assert same(copy.deepcopy(error), error)


def test_every_error_passes_a_process_pool_both_ways() -> None:
    errors = [example(kind) for kind in KINDS]
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        for error, future in [(error, pool.submit(partial(fail, error))) for error in errors]:
            assert same(_without_traceback(future.exception(timeout=60)), error)


def _without_traceback(error: BaseException | None) -> BaseException:
    """Return the error without the note in which a pool keeps the traceback."""
    assert error is not None
    error.__cause__ = None
    return error


class OwnError(BranchwiseError):
    """An error of a user's own."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first}: {second}")
        self.second = second


def test_a_subclass_of_ones_own_is_pickled() -> None:
    error = OwnError("a", 2)
    assert same(pickle.loads(pickle.dumps(error)), error)


def test_inherited_attributes_are_kept() -> None:
    missing = pickle.loads(pickle.dumps(MissingExtraError("torch", "engine")))
    assert isinstance(missing, ImportError)
    assert str(missing) == missing.msg == "torch is not installed; run: pip install 'branchwise[engine]'"
    assert (
        str(pickle.loads(pickle.dumps(CallError("verifier", ValueError("x"))))) == "verifier: failed with ValueError: x"
    )


def test_a_missing_package_is_named_through_several_imports() -> None:
    inner = MissingExtraError("limits", "server")
    assert isinstance(inner, ImportError)
    assert inner.name == "limits"  # which a module that imports the failing one reports in turn
