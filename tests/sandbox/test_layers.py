"""Layers of the sandbox where the kernel refuses some of them: reported, and too few are refused."""

import os
import subprocess
import sys

import pytest

from branchwise.sandbox.sandbox import Layers
from tests.support.denied_layers import DENIED_LAYERS, without
from tests.support.sandboxes import Setup, setups

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

_CHECK = """
import sys
from branchwise.sandbox.outcome import SandboxError
from branchwise.sandbox.sandbox import check_sandbox
try:
    print(*check_sandbox(strict=sys.argv[1] == "strict"))
except SandboxError as error:
    print(error)
"""


def _checked(setup: Setup, denied: tuple[str, ...], strict: str = "strict", **environment: str) -> str:
    return without(denied, setup, _CHECK, strict, environment={**os.environ, **environment})


@pytest.fixture(params=["root with filter", "user with filter", "user with namespaces"])
def setup(request: pytest.FixtureRequest) -> Setup:
    if request.param not in setups():
        pytest.skip("not available here")
    return setups()[request.param]


@pytest.mark.parametrize("denied", DENIED_LAYERS, ids=lambda denied: " ".join(denied) or "nothing")
def test_layers_are_reported_and_too_few_are_refused(denied: tuple[str, ...], setup: Setup) -> None:
    expected = Layers(*(name not in denied for name in Layers._fields))
    reply = _checked(setup, denied)
    if expected.namespaces or (expected.landlock and expected.seccomp):
        assert reply == " ".join(map(str, expected))
    else:
        missing = ", ".join(name for name in Layers._fields if name in denied)
        assert reply.startswith(f"sandbox: too few layers hold: {missing} missing")
        assert "\n" not in reply


def test_root_may_run_programs_with_fewer_layers() -> None:
    if "root with filter" not in setups():
        pytest.skip("needs root")
    root, denied = setups()["root with filter"], ("namespaces", "landlock")
    assert "or set BRANCHWISE_WEAK_SANDBOX=1" in _checked(root, denied)
    assert _checked(root, denied, BRANCHWISE_WEAK_SANDBOX="1") == "False False True"
    assert _checked(root, denied, "weak") == "False False True"
    assert _checked(root, ("namespaces", "landlock", "seccomp"), "weak").startswith("sandbox: too few")


def test_a_user_never_runs_programs_with_too_few_layers() -> None:
    if "user with filter" not in setups():
        pytest.skip("needs another user")
    reply = _checked(setups()["user with filter"], ("namespaces", "landlock"), "weak")
    assert reply.startswith("sandbox: too few layers hold: namespaces, landlock missing")
    assert "BRANCHWISE_WEAK_SANDBOX" not in reply


def test_the_command_prints_the_layers() -> None:
    command = [sys.executable, "-m", "branchwise.cli.main", "sandbox", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(Layers._fields)
    assert "yes" in done.stdout
