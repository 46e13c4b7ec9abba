"""Hostile programs, as root and as a user, with every layer and without each: confined, and nothing left."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from branchwise.sandbox.outcome import Outcome, SandboxError
from tests.support.cheats import CHEATS
from tests.support.denied_layers import serving
from tests.support.hostile import ATTACKING, EXHAUSTING, PRELUDE, REACHING
from tests.support.sandboxes import Run, all_gone, folders, processes, served, setups
from tests.support.world import SECRET, World, world

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

_USERS = {name.split()[0]: setup for name, setup in setups().items() if name.endswith("filter")}
_DENIED = {"all layers": (), "no namespaces": ("namespaces",), "no landlock": ("landlock",), "no seccomp": ("seccomp",)}
_LIMITS = {"seconds": 0.5, "cpu_seconds": 1, "memory": 200 << 20, "files": 4 << 20}
_PATIENCE = 30.0  # seconds for what is over soon
# Those that reach for the checker's process; `test_checker` runs the others, which no layer stops.
_CHEATS = (
    "equals everything", "linecache", "memory of the process", "proof on every descriptor", "killed checker",
    "a closed channel", "a stopped checker", "a traced checker", "the memory of the checker", "a second program",
    "two processes", "a stack of the interpreter",
)  # fmt: skip


class Place(NamedTuple):
    """A sandbox, and the world around it."""

    run: Run
    world: World


@pytest.fixture(scope="module", params=[(user, layers) for user in _USERS for layers in _DENIED], ids=" with ".join)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    user, layers = request.param
    setup = _USERS[user]._replace(layers="namespaces")
    with served(setup, serving(_DENIED[layers], setup)) as (run, _), world(setup) as around:
        yield Place(run, around)


def _confined(place: Place, source: str, tests: str | None = None) -> Outcome | None:
    """Run a program and check that it changed, learned and left nothing; return its end, None if it was refused."""
    before = folders()
    try:
        outcome = place.run(place.world.fill(source), tests=tests, **_LIMITS)
    except SandboxError as error:
        if "too few layers hold" not in error.problem:
            raise
        outcome = None
    assert all_gone(processes())
    assert not folders() - before
    assert not place.world.changes()
    assert outcome is None or not any(text in outcome.detail for text in ("REACHED", SECRET)), outcome
    return outcome


@pytest.mark.parametrize("name", [*REACHING, *ATTACKING])
def test_a_hostile_program_is_confined(name: str, place: Place) -> None:
    _confined(place, PRELUDE + {**REACHING, **ATTACKING}[name])


@pytest.mark.parametrize("name", EXHAUSTING)
def test_an_exhausting_program_is_ended(name: str, place: Place) -> None:
    outcome = _confined(place, PRELUDE + EXHAUSTING[name])
    assert outcome is None or not outcome.passed


@pytest.mark.parametrize("name", _CHEATS)
def test_a_cheat_does_not_pass(name: str, place: Place) -> None:
    outcome = _confined(place, CHEATS[name], tests="assert f(1) == 42\nassert f(2) == 43")
    assert outcome is None or not outcome.passed


def test_a_right_program_passes(place: Place) -> None:
    assert place.run("x = 1", seconds=_PATIENCE).passed
    assert place.run("def f(x): return x + 41", tests="assert f(1) == 42", seconds=_PATIENCE).passed


@pytest.mark.parametrize("name", REACHING)
@pytest.mark.parametrize("user", _USERS)
def test_outside_the_sandbox_it_would_succeed(user: str, name: str) -> None:
    """Else the tests above show nothing."""
    setup = _USERS[user]
    owner = setup.user or None
    with world(setup) as around, tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        with subprocess.Popen(
            [setup.interpreter, "-c", PRELUDE + around.fill(REACHING[name])],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            user=owner,
            group=owner,
            extra_groups=None if owner is None else (),
            start_new_session=True,
        ) as program:
            printed, _ = program.communicate(timeout=60)
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE
        while b"REACHED" not in printed and not around.changes():
            assert time.monotonic() < deadline  # a signal takes a moment
            time.sleep(0.01)
