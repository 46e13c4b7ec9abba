"""A thousand requests with random faults: no answer is lost, nothing hangs, nothing leaks."""

import asyncio
import gc
import re
import time

import pytest

import branchwise as bw
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.core.result import Result
from tests.support.fake_responses import FakeReply
from tests.support.fake_server import FakeFeatures, FakeServer
from tests.support.faults import FAULTS, RandomFaults, open_descriptors

QUESTIONS, PATHS = 25, 40
SEED = 20240607


def script(prompt: str, before: int) -> FakeReply:
    """Return the right answer to three in four requests."""
    found = re.search(r"number (\d+)\?", prompt)
    number = int(found.group(1)) if found else 0
    answer = number if before % 4 else number + 1
    return FakeReply(f"Let me think of it, once and again. The answer is \\boxed{{{answer}}}.")


def settings(*servers: FakeServer) -> OpenAISettings:
    urls = tuple(server.url for server in servers)
    return OpenAISettings(urls, idle_timeout=2.5, retries=6, retry_seconds=20.0, concurrency=32)


async def solve_all(backend: OpenAIBackend, questions: int, paths: int) -> list[Result]:
    """Run all questions at once."""
    strategy = bw.SelfConsistency(paths=paths)
    runs = [bw.solve(f"What is number {i}?", backend, strategy=strategy, seed=i) for i in range(questions)]
    return list(await asyncio.gather(*runs))


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])
def test_a_thousand_requests_with_faults_lose_nothing(tokens: bool) -> None:
    faults = RandomFaults(SEED)
    with FakeServer(script, FakeFeatures(tokens=tokens, chunk=2)) as server:
        backend = OpenAIBackend.load(settings(server))
        server.reset()
        server.faults = faults
        before = open_descriptors()

        async def run() -> list[Result]:
            async with asyncio.timeout(110):
                results = await solve_all(backend, QUESTIONS, PATHS)
            await backend.close()
            await asyncio.sleep(0.1)  # connections of cancelled branches are closed
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return results

        results = asyncio.run(run())
        gc.collect()  # open resources would cause a warning
        for _ in range(50):
            if server.running == 0 and open_descriptors() <= before:
                break
            time.sleep(0.1)
        assert server.running == 0
        assert open_descriptors() <= before
        assert len(server.requests) > QUESTIONS * PATHS
        assert sum(faults.counts.values()) > 0.1 * QUESTIONS * PATHS
        assert set(faults.counts) == set(FAULTS)
    assert [result.answer for result in results] == [str(i) for i in range(QUESTIONS)]
    for result in results:
        # A branch that meets a fault too often is reported as an error, never lost.
        assert len(result.paths) + len(result.errors) == PATHS
        assert all(branch.path.answer_text.endswith("}.") for branch in result.paths)
        if tokens:
            assert all(branch.path.ends[-1] == len(branch.path.text) for branch in result.paths)
        usage = result.usage
        assert usage.prompt == usage.reused + usage.prefilled
        assert usage.discarded <= usage.sampled
    assert sum(len(result.errors) for result in results) <= 0.02 * QUESTIONS * PATHS


def test_a_replica_that_dies_during_a_run_loses_no_answer() -> None:
    faults = RandomFaults(SEED + 1, rate=0.05)
    with FakeServer(script, faults=faults) as one, FakeServer(script, faults=faults) as two:
        backend = OpenAIBackend.load(settings(one, two))
        one.reset()
        two.reset()

        async def run() -> list[Result]:
            async with asyncio.timeout(110):
                solving = asyncio.create_task(solve_all(backend, 12, 20))
                while len(one.requests) < 40 or not one.running:  # noqa: ASYNC110 (in a thread of its own)
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(one.kill)
                results = await solving
            await backend.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return results

        results = asyncio.run(run())
        assert len(two.requests) > len(one.requests)
    assert [result.answer for result in results] == [str(i) for i in range(12)]
    for result in results:
        assert len(result.paths) == 20
        assert result.errors == ()
        assert all(branch.path.answer_text.endswith("}.") for branch in result.paths)
