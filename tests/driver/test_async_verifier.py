"""How the driver calls verifiers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.registry import strategy


@dataclass
class Counted:
    """How many calls were under way at once."""

    now: int = 0
    most: int = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        self.now -= 1


@dataclass(eq=False)
class Together:
    """An object whose call is async: it answers once four calls wait for it."""

    counted: Counted = field(default_factory=Counted)
    full: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, path: bw.Path) -> float:
        with self.counted:
            if self.counted.now == 4:
                self.full.set()
            await asyncio.wait_for(self.full.wait(), 20)
            return 0.5


@dataclass(eq=False)
class Plain:
    """An object whose call is not, and not safe in two threads."""

    counted: Counted = field(default_factory=Counted)

    def __call__(self, path: bw.Path) -> float:
        with self.counted:
            return 0.5


def solved(verifier: object) -> bw.Result:
    backend = ScriptedBackend({"": ["The answer is 1.", "The answer is 2.", "The answer is 1.", "The answer is 3."]})
    checked = strategy("best-of-n:value=verifier,paths=4", 4, bw.Sampling())
    return bw.solve_sync("q", backend, strategy=checked, verifier=verifier)  # type: ignore[arg-type]


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was called in a thread."""
    called: list[object] = []
    really = asyncio.to_thread

    async def spy(function: Callable[..., object], *given: object) -> object:
        called.append(function)
        return await really(function, *given)

    monkeypatch.setattr(asyncio, "to_thread", spy)
    return called


def test_an_object_with_an_async_call_is_awaited_for_all_paths_at_once(threaded: list[object]) -> None:
    verifier = Together()
    result = solved(verifier)
    assert (result.errors, verifier.counted.most) == ((), 4)
    assert verifier not in threaded


def test_so_is_a_part_of_an_async_function() -> None:
    counted = Counted()

    async def check(counted: Counted, path: bw.Path) -> float:
        with counted:
            await asyncio.sleep(0.05)
            return 0.5

    assert solved(partial(check, counted)).errors == ()
    assert counted.most > 1


def test_a_plain_object_is_called_for_one_path_at_a_time_in_a_thread(threaded: list[object]) -> None:
    verifier = Plain()
    assert solved(verifier).errors == ()
    assert verifier.counted.most == 1
    assert threaded.count(verifier) == 4


def test_what_gives_an_awaitable_without_being_async_is_awaited() -> None:
    async def half() -> float:
        return 0.5

    assert solved(lambda path: half()).errors == ()
