"""Fixtures that run programs in every kind of sandbox this machine supports."""

import time
from collections.abc import Iterator

import pytest

from branchwise.sandbox.outcome import Outcome
from tests.support.sandboxes import PATIENCE, Run, Setup, all_gone, folders, processes, served, setups


@pytest.fixture(scope="module", params=setups())
def setup(request: pytest.FixtureRequest) -> Setup:
    """A combination of user and sandbox layers that this machine supports."""
    return setups()[request.param]


@pytest.fixture(scope="module")
def run(setup: Setup) -> Iterator[Run]:
    """Run programs, and check that each leaves no process or folder and ends in time."""
    with served(setup) as (unchecked, _):

        def checked(source: str, **limits: float) -> Outcome:
            before, begun = folders(), time.monotonic()
            outcome = unchecked(source, **limits)
            assert time.monotonic() - begun < PATIENCE
            assert all_gone(processes())
            assert not folders() - before
            return outcome

        yield checked
