"""Registry of verifiers by name, for the command line and configuration files.

examples                         runs the examples in a Python docstring of the question
game24                           checks a solution of the Game of 24
reward:MODEL[,option=value]      a reward model: a folder or a hub id; see RewardModel for its options
MODULE:FUNCTION, FILE.py:FUNCTION   any callable, sync or async, that takes a Path and returns a number
"""

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from branchwise.backends.models.progress import OnProgress
from branchwise.backends.models.resolve import check, resolve
from branchwise.core.errors import ConfigError, ModelError
from branchwise.core.validation import suggestion
from branchwise.driver import Verifier
from branchwise.strategies.options import apply_options, join_options, split_options
from branchwise.strategies.user_code import load_object
from branchwise.verifiers.reward.reward_model import RewardModel
from branchwise.verifiers.reward.settings import RewardSettings

_REWARD = "reward"
_FORMS = f"{_REWARD}:MODEL, or a function as MODULE:FUNCTION or FILE.py:FUNCTION"


class NamedVerifier(NamedTuple):
    """Name of a verifier and a function that creates it on demand."""

    name: str
    make: Callable[[OnProgress], Verifier]
    """Create the verifier; fetches and loads its model. Raises ConfigError, ModelError or MissingExtraError."""


def _examples(_: OnProgress) -> Verifier:
    from branchwise.verifiers.programs import DocstringExamples

    return DocstringExamples()


def _game24(_: OnProgress) -> Verifier:
    from branchwise.verifiers.game24 import Game24

    return Game24()


VERIFIERS: Mapping[str, Callable[[OnProgress], Verifier]] = {"examples": _examples, "game24": _game24}
"""Factories by name; each imports its module when called."""


def verifier(spec: str, device: str | None = None) -> NamedVerifier:
    """Parse a verifier specification; a reward model runs on `device`.

    Raises ConfigError for an unknown name or option, a missing module, file or attribute, and an object that cannot be
    called with a path.
    """
    kind, colon, rest = spec.partition(":")
    if not colon:
        if spec not in VERIFIERS:
            fix = suggestion(spec, VERIFIERS, f"use {', '.join(VERIFIERS)}, {_FORMS}")
            raise ConfigError("verifier", f"{spec!r} is unknown", fix)
        return NamedVerifier(spec, VERIFIERS[spec])
    if kind == _REWARD:
        return _reward(rest, device)
    called = _function(spec)
    return NamedVerifier(spec, lambda _: called)


def _reward(text: str, device: str | None) -> NamedVerifier:
    model, *given = split_options(text)
    if not model:
        raise ConfigError("verifier", "reward: has no model", "write reward:MODEL, a folder or a hub id")
    settings, spelled = apply_options(RewardSettings(device=device), given, "verifier", _REWARD)
    try:
        check(model)
    except ModelError as error:
        problem = error.problem.replace("model: ", "reward model: ", 1)
        raise ConfigError("verifier", problem, "use a local folder, or a hub id such as owner/name") from error

    def make(progress: OnProgress) -> Verifier:
        from branchwise.backends.engine.model.threads import (
            release_openmp_workers,  # the engine's package prepares what torch starts with
        )

        return RewardModel.load(resolve(model, progress), settings, idle=release_openmp_workers)

    return NamedVerifier(f"{_REWARD}:{join_options([model, *spelled])}", make)


def _function(spec: str) -> Verifier:
    """Return the callable at MODULE:FUNCTION or FILE.py:FUNCTION."""
    return _checked(load_object(spec, "verifier", "FUNCTION"), spec)


def _checked(found: object, spec: str) -> Verifier:
    """Return the object if it can be called with one path. Raises ConfigError."""
    if isinstance(found, type):
        raise ConfigError("verifier", f"{spec} is a class", "name a function, or an object made of the class")
    if not callable(found):
        raise ConfigError(
            "verifier", f"{spec} is not a function but {type(found).__name__}", "name one that takes a Path"
        )
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise ConfigError(
            "verifier", f"{spec} can't be called with one Path ({error})", "make it accept one Path"
        ) from error
    except ValueError:  # a C function without a signature
        pass
    return found
