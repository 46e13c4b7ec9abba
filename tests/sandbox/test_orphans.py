"""Nothing outlives a process of the sandbox, or its caller, that is killed with signal 9."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.sandbox.jail.processes import children
from branchwise.sandbox.outcome import Kind, SandboxError
from tests.support.sandboxes import PATIENCE, Run, Setup, all_gone, folders, processes, served, setups

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

# Each child tries another way out, then waits under a name that the test finds.
CLINGING = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
def ignores_signals():
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
def blocks_signals(): signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def forks():
    if os.fork(): os._exit(0)
def forks_twice():
    for _ in range(2):
        if os.fork(): os._exit(0)
        os.setsid()
def daemon():
    if os.fork(): os._exit(0)
    os.setsid(); os.chdir("/"); os.umask(0); os.closerange(0, 64)
    if os.fork(): os._exit(0)
ways = [
    lambda: None, lambda: libc.prctl(1, 0, 0, 0, 0), lambda: libc.prctl(36, 1, 0, 0, 0), os.setsid, os.setpgrp,
    lambda: os.closerange(0, 64), ignores_signals, blocks_signals, forks, forks_twice, daemon,
]
for folder in (".", "/tmp", "/dev/shm", "/var/tmp"):
    try: open(f"{folder}/MARK", "w").write("x")
    except OSError: pass
for way in ways:
    if os.fork() == 0:
        libc.prctl(1, 0, 0, 0, 0)
        try: way()
        except OSError: pass
        os.execv("/usr/bin/sleep", ["sleep", "MARK"])
libc.prctl(1, 0, 0, 0, 0)
ignores_signals()
while True:
    time.sleep(60)
"""
_WAYS = 11
_VICTIMS = {
    "supervisor": ("supervisor",),
    "init": ("init",),
    "caller": ("caller",),
    "caller and supervisor": ("caller", "supervisor"),
    "caller and init": ("caller", "init"),
}


@pytest.mark.parametrize("victims", _VICTIMS.values(), ids=_VICTIMS)
def test_nothing_outlives_a_killed_process(victims: tuple[str, ...], setup: Setup) -> None:
    mark, before = f"62{time.time_ns()}", folders()
    with served(setup) as (run, caller):
        named = {"caller": caller} | _clinging(run, caller, mark)
        suspects = processes()
        for victim in victims:
            os.kill(named[victim], 9)
        assert all_gone(processes(mark), mark)
        if victims == ("supervisor",):
            with pytest.raises(SandboxError, match="without a report"):
                run("x = 1")  # gets the reply to the program before
        elif victims == ("init",):
            assert run("x = 1").kind is Kind.CRASHED
        if "caller" not in victims:
            assert run("x = 1").passed
        assert all_gone(suspects)
    _wait(lambda: not folders() - before)
    assert not [folder for folder in ("/tmp", "/dev/shm", "/var/tmp") if Path(folder, mark).exists()]


@pytest.mark.parametrize("name", [name for name, setup in setups().items() if setup.layers == "namespaces"])
def test_a_namespace_ends_when_all_its_keepers_are_killed(name: str) -> None:
    mark = f"63{time.time_ns()}"
    with served(setups()[name]) as (run, caller):
        named = _clinging(run, caller, mark)
        for victim in (caller, *named.values()):
            os.kill(victim, 9)
        assert all_gone(processes(mark), mark)


def _clinging(run: Run, caller: int, mark: str) -> dict[str, int]:
    """Start the program; return the processes above it."""
    run(CLINGING.replace("MARK", mark), wait=False, processes=32)
    _wait(lambda: len(processes(mark)) >= _WAYS)
    (supervisor,) = children(caller)
    (init,) = children(supervisor)
    return {"supervisor": supervisor, "init": init}


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
