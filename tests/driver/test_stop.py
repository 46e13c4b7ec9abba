"""Stopping a run."""

import asyncio

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend


async def test_stop_returns_the_best_answer_so_far() -> None:
    backend = ScriptedBackend({"": ["The answer is 1.", Reply("never " * 1000, delay=0.05)]})
    stop = bw.Stop()
    asyncio.get_running_loop().call_later(0.2, stop.set)
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(2), stop=stop)
    assert result.outcome is bw.Outcome.CANCELLED
    assert result.answer == "1"
    assert not backend.running


async def test_a_stop_used_for_several_runs_keeps_no_listeners() -> None:
    stop = bw.Stop()
    for _ in range(3):
        await bw.solve("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=bw.Greedy(), stop=stop)
    assert not stop._listeners
