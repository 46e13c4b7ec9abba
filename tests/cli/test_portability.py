"""The package and its command line on a machine without Unix-only modules."""

import subprocess
import sys

import pytest

HIDE_FCNTL = "import sys; sys.modules['fcntl'] = None; "


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["eval", "--help"], ["strategies"]])
def test_the_command_line_starts_without_fcntl(arguments: list[str]) -> None:
    code = HIDE_FCNTL + "from branchwise.cli.main import main; main()"
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_the_package_imports_without_fcntl() -> None:
    run = subprocess.run([sys.executable, "-c", HIDE_FCNTL + "import branchwise"], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
