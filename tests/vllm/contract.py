"""The contract of every backend (tests/test_backends.py), for the backends that are tested here."""

from collections.abc import Callable

import test_backends as contract

_SCRIPTED = (
    "test_a_script_that_fails_for_one_branch_leaves_none_running",
    "test_closing_waits_for_what_runs",
    "test_a_reply_says_the_same_in_pieces_of_any_size",
)


def tests_without(*names: str) -> dict[str, Callable[..., object]]:
    """All tests by name but for those, and for those of the scripted backend alone."""
    found = {name: test for name, test in vars(contract).items() if name.startswith("test_")}
    for name in (*_SCRIPTED, *names):
        del found[name]  # a test that is renamed there must not be lost here
    return found
