"""The step loop: failures and cancellations affect only their own branches."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.speculation.verify import Verification
from branchwise.backends.stream import BranchEvent, Broken, Ended, Tokens
from branchwise.core.errors import BackendError
from tests.support.branches import SAMPLING, MakeEngine, collect, generate, generate_tokens, make_root

pytestmark = pytest.mark.usefixtures("one_thread")


async def test_a_failing_branch_fails_no_other_branch(
    make_tiny_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, clean = make_tiny_engine(), make_tiny_engine()
    root = await make_root(engine)
    expected = await generate_tokens(clean, root, range(6))
    extension = engine.extend(ExtendRequest(root, tuple(range(6)), SAMPLING))
    for _ in range(9):
        await anext(extension)
    (failing,) = [branch for branch in engine._loop.batch.running if branch.copy == 3]
    monkeypatch.setattr(
        type(failing.detokenizer), "take", _failing_for(failing.detokenizer, type(failing.detokenizer).take)
    )
    ends = {event.copy: event async for event in extension if isinstance(event, Ended | Broken)}
    assert [copy for copy, end in ends.items() if isinstance(end, Broken)] == [3]
    assert "broken on purpose" in str(ends[3].error)  # type: ignore[union-attr]
    monkeypatch.undo()
    assert await generate_tokens(engine, root, range(6)) == expected


def _failing_for(failing: object, take: Callable[..., str]) -> Callable[..., str]:
    def take_or_fail(self: object, final: bool) -> str:
        if self is failing:
            raise RuntimeError("broken on purpose")
        return take(self, final)

    return take_or_fail


@pytest.mark.parametrize("steps", [0, 9])
async def test_a_branch_whose_sampling_fails_ends_alone(make_tiny_engine: MakeEngine, steps: int) -> None:
    engine, clean = make_tiny_engine(), make_tiny_engine()
    root = await make_root(engine)
    expected = await generate_tokens(clean, root, range(6))
    verify, active = engine._loop.batch._verify, steps == 0

    def failing(logits: Tensor, verifications: Sequence[Verification], end_tokens: frozenset[int]) -> None:
        verify(logits, verifications, end_tokens)
        if active and any(one.branch.copy == 3 for one in verifications):
            raise OverflowError("top_k is too large")

    engine._loop.batch._verify = failing
    extension = engine.extend(ExtendRequest(root, tuple(range(6)), SAMPLING))
    paths = {copy: list[int]() for copy in range(6)}
    ends = dict[int, BranchEvent]()
    async for event in extension:
        if isinstance(event, Tokens):
            paths[event.copy].extend(event.token_ids)
        elif isinstance(event, Ended | Broken):
            ends[event.copy] = event
        active = active or sum(map(len, paths.values())) >= steps
    assert [copy for copy, end in ends.items() if isinstance(end, Broken)] == [3]
    assert "top_k is too large" in str(ends[3])
    others = [copy for copy in range(6) if copy != 3]
    assert [tuple(paths[copy]) for copy in others] == [tuple(expected[copy]) for copy in others]


async def test_cancelling_a_branch_does_not_change_the_others(make_tiny_engine: MakeEngine) -> None:
    engine, keys = make_tiny_engine(), range(8)
    root = await make_root(engine)
    expected = await generate_tokens(engine, root, keys)
    for victim in keys:
        engine.clear()
        extension, events = engine.extend(ExtendRequest(root, tuple(keys), SAMPLING)), list[int]()

        def cancel(event: BranchEvent, victim: int = victim, events: list[int] = events) -> None:
            events.append(event.copy)
            if events.count(victim) == 3:
                extension.cancel(victim)  # noqa: B023

        results = await collect(extension, root, keys, cancel)
        assert not results[victim].finished
        assert results[victim].cost.discarded == results[victim].cost.sampled == len(results[victim].tokens)
        assert results[victim].tokens == expected[victim][: len(results[victim].tokens)]
        assert [branch.tokens for branch in results if branch.finished] == expected[:victim] + expected[victim + 1 :]


async def test_a_failing_pass_fails_its_branches_and_the_engine_continues(
    make_tiny_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_tiny_engine()
    root = await make_root(engine)
    expected = await generate_tokens(engine, root, (1, 2))
    engine.clear()
    step = engine._model.step

    def failing(*args: object, **kwargs: object) -> torch.Tensor:
        raise RuntimeError("out of order")

    monkeypatch.setattr(engine._model, "step", failing)
    broken = await generate(engine, root, (1, 2))
    assert all(isinstance(branch.end, Broken) for branch in broken)
    with pytest.raises(BackendError, match="out of order"):
        await engine.score(root, ["no"])
    monkeypatch.setattr(engine._model, "step", step)
    assert await generate_tokens(engine, root, (1, 2)) == expected


async def test_the_prefill_of_a_cancelled_request_is_in_its_usage(make_tiny_engine: MakeEngine) -> None:
    engine = make_tiny_engine(prefill_chunk=1)
    path = await make_root(engine, "word " * 80)
    extension = engine.extend(ExtendRequest(path, (1, 2), SAMPLING))
    await asyncio.sleep(0.1)
    extension.cancel(0)
    extension.cancel(1)
    costs = [event.cost async for event in extension if isinstance(event, Ended)]
    assert sum(cost.prefilled for cost in costs) > 0
    assert all(cost.prompt == cost.reused + cost.prefilled for cost in costs)
    assert sum(cost.sampled for cost in costs) == 0
