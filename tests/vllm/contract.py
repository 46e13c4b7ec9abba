"""The contract of every backend, for the backends that need vLLM."""

from collections.abc import Callable

from tests.backends import test_contract, test_contract_usage


def contract_without(*names: str) -> dict[str, Callable[..., object]]:
    """Return the tests of the contract by name, without `names`."""
    modules = (test_contract, test_contract_usage)
    found = {name: test for module in modules for name, test in vars(module).items() if name.startswith("test_")}
    for name in names:
        del found[name]  # raises KeyError when a test was renamed
    return found
