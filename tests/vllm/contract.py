"""The contract of every backend (tests/backends/test_contract.py), for the backends that need vLLM."""

from collections.abc import Callable

from tests.backends import test_contract as contract

_SCRIPTED_ONLY = (
    "test_a_script_that_fails_for_one_branch_leaves_none_running",
    "test_closing_waits_for_what_runs",
    "test_a_reply_says_the_same_in_pieces_of_any_size",
)


def contract_without(*names: str) -> dict[str, Callable[..., object]]:
    """Return the tests of the contract by name, without `names` and those of the scripted backend alone."""
    found = {name: test for name, test in vars(contract).items() if name.startswith("test_")}
    for name in (*_SCRIPTED_ONLY, *names):
        del found[name]  # raises KeyError when a test was renamed
    return found
