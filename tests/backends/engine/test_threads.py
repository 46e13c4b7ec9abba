"""The step loop's threads have the processors to themselves."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model.threads import rest
from tests.support.lab import ask, tokens

_TASKS = "/proc/self/task"

_SCRIPT = f"""
import os, torch
from branchwise.backends.engine.model.threads import rest
torch.set_num_threads(3)
before = set(os.listdir("{_TASKS}"))
torch.rand(1 << 22).exp()
workers = set(os.listdir("{_TASKS}")) - before
rest()
print(len(workers), len(workers & set(os.listdir("{_TASKS}"))), int(torch.ones(1 << 22).sum()))
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU OpenMP is torch's on Linux")


def _workers(work: Callable[[], object]) -> set[str]:
    before = set(os.listdir(_TASKS))
    work()
    return set(os.listdir(_TASKS)) - before


def test_a_resting_threads_workers_are_gone_and_come_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "0", str(1 << 22)]


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="there are no workers")
async def test_whoever_asks_has_no_idle_workers(tiny_engine: Engine) -> None:
    root = await ask(tiny_engine)
    rest()
    workers = _workers(torch.rand(1 << 22).exp)
    assert workers
    await tokens(tiny_engine, root, (1,))
    assert not workers & set(os.listdir(_TASKS))
