"""Idle OpenMP workers of other threads are released, so that the step loop has all cores."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model.threads import release_openmp_workers
from tests.support.branches import generate_tokens, make_root

_TASKS = "/proc/self/task"

_SCRIPT = f"""
import os, torch
from branchwise.backends.engine.model.threads import release_openmp_workers
torch.set_num_threads(3)
before = set(os.listdir("{_TASKS}"))
torch.rand(1 << 22).exp()
workers = set(os.listdir("{_TASKS}")) - before
release_openmp_workers()
print(len(workers), len(workers & set(os.listdir("{_TASKS}"))), int(torch.ones(1 << 22).sum()))
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU OpenMP is torch's on Linux")


def _workers(work: Callable[[], object]) -> set[str]:
    before = set(os.listdir(_TASKS))
    work()
    return set(os.listdir(_TASKS)) - before


def test_released_workers_exit_and_start_again() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "0", str(1 << 22)]


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one thread has no workers")
async def test_a_calling_thread_has_no_idle_workers(tiny_engine: Engine) -> None:
    root = await make_root(tiny_engine)
    release_openmp_workers()
    workers = _workers(torch.rand(1 << 22).exp)
    assert workers
    await generate_tokens(tiny_engine, root, (1,))
    assert not workers & set(os.listdir(_TASKS))
