"""Names that `branchwise.backends` exports, and what importing it costs."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from branchwise import backends
from branchwise.core.errors import MissingExtraError

HEAVY = ("torch", "transformers", "vllm", "httpx", "huggingface_hub", "filelock")


@pytest.mark.parametrize("name", backends.__all__)
def test_every_exported_name_exists(name: str) -> None:
    if name == "VLLMBackend" and find_spec("vllm") is None:
        with pytest.raises(MissingExtraError, match="vllm"):
            getattr(backends, name)
        return
    assert getattr(backends, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        backends.Nothing  # noqa: B018


def test_importing_the_package_imports_no_backend() -> None:
    code = f"import sys, branchwise.backends as b; dir(b); print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
