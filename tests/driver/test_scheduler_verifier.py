"""Calls of verifiers: async ones at once, plain ones one at a time in a thread."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.registry import make_strategy


@dataclass
class CallCounter:
    """Counts concurrent calls."""

    now: int = 0
    most: int = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        self.now -= 1


@dataclass(eq=False)
class Together:
    """A verifier with an async call, which returns once four calls wait."""

    calls: CallCounter = field(default_factory=CallCounter)
    full: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, path: bw.Path) -> float:
        with self.calls:
            if self.calls.now == 4:
                self.full.set()
            await asyncio.wait_for(self.full.wait(), 20)
            return 0.5


@dataclass(eq=False)
class Plain:
    """A verifier with a plain call."""

    calls: CallCounter = field(default_factory=CallCounter)

    def __call__(self, path: bw.Path) -> float:
        with self.calls:
            return 0.5


def solve(verifier: object) -> bw.Result:
    backend = ScriptedBackend({"": ["The answer is 1.", "The answer is 2.", "The answer is 1.", "The answer is 3."]})
    checked = make_strategy("best-of-n:value=verifier,paths=4", 4, bw.Sampling())
    return bw.solve_sync("q", backend, strategy=checked, verifier=verifier)  # type: ignore[arg-type]


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the functions that were called in a thread."""
    called: list[object] = []
    to_thread = asyncio.to_thread

    async def spy(function: Callable[..., object], *arguments: object) -> object:
        called.append(function)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", spy)
    return called


def test_an_object_with_an_async_call_runs_for_all_paths_at_once(threaded: list[object]) -> None:
    verifier = Together()
    result = solve(verifier)
    assert (result.errors, verifier.calls.most) == ((), 4)
    assert verifier not in threaded


def test_a_partial_of_an_async_function_runs_for_all_paths_at_once() -> None:
    calls = CallCounter()

    async def check(calls: CallCounter, path: bw.Path) -> float:
        with calls:
            await asyncio.sleep(0.05)
            return 0.5

    assert solve(partial(check, calls)).errors == ()
    assert calls.most > 1


def test_a_plain_object_is_called_for_one_path_at_a_time_in_a_thread(threaded: list[object]) -> None:
    verifier = Plain()
    assert solve(verifier).errors == ()
    assert verifier.calls.most == 1
    assert threaded.count(verifier) == 4


def test_an_awaitable_from_a_plain_function_is_awaited() -> None:
    async def half() -> float:
        return 0.5

    assert solve(lambda path: half()).errors == ()
