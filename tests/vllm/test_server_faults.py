"""Faults between client and real server lose no answer and leak nothing."""

import asyncio
import gc
from contextlib import ExitStack

import pytest

import branchwise as bw
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.core.result import Result
from tests.support.faults import FAULTS, Fault, RandomFaults, open_descriptors
from tests.vllm.proxy import Proxy
from tests.vllm.servers import KINDS, Server, wait_until

pytestmark = pytest.mark.parametrize("tiny_server", KINDS, indirect=True, scope="session")

QUESTIONS, PATHS, TOKENS = 12, 8, 24
SEED = 20261125


def backend(*proxies: Proxy) -> OpenAIBackend:
    urls = tuple(proxy.url for proxy in proxies)
    loaded = OpenAIBackend.load(OpenAISettings(urls, idle_timeout=2.5, retries=8, retry_seconds=30.0, concurrency=16))
    for proxy in proxies:
        proxy.on = True
    return loaded


async def solve_all(loaded: OpenAIBackend) -> list[Result]:
    strategy = bw.SelfConsistency(paths=PATHS, sampling=bw.Sampling(temperature=1.0, max_tokens=TOKENS))
    runs = [bw.solve(f"What is number {i}?", loaded, strategy=strategy, seed=i) for i in range(QUESTIONS)]
    return list(await asyncio.gather(*runs))


def check(results: list[Result], exact: bool) -> None:
    """Check that every path is complete and counted once."""
    for result in results:
        assert len(result.paths) + len(result.errors) == PATHS
        assert len(result.errors) <= 1
        for branch in result.paths:
            assert branch.path.text
            assert len(branch.path.token_ids) == (TOKENS if exact else 0)
            assert not exact or branch.path.ends[-1] == len(branch.path.text)
        usage = result.usage
        assert usage.prompt == usage.reused + usage.prefilled
        assert usage.sampled - usage.discarded == TOKENS * len(result.paths)


def every_third(number: int) -> Fault | None:
    """Return each kind of fault in turn, for every third request."""
    kind = FAULTS[number // 3 % len(FAULTS)]
    return None if number % 3 else Fault(kind, after=number % 4, retry_after="0.05")


def test_faults_on_the_way_lose_nothing(tiny_server: Server) -> None:
    with Proxy(tiny_server.address, every_third) as proxy:
        loaded = backend(proxy)

        async def run() -> list[Result]:
            async with asyncio.timeout(300):
                results = await solve_all(loaded)
            await loaded.close()
            await asyncio.sleep(0.1)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return results

        before = open_descriptors()
        results = asyncio.run(run())
        gc.collect()
        assert proxy.requests > max(QUESTIONS * PATHS, 3 * len(FAULTS))
        check(results, loaded.capabilities.token_out)
        assert wait_until(lambda: tiny_server.busy() == 0, 2) < 2
        assert open_descriptors() <= before


def test_a_replica_that_dies_takes_no_answer_with_it(tiny_server: Server) -> None:
    chance = RandomFaults(SEED, 0.05)
    with ExitStack() as stack:
        one, two = (stack.enter_context(Proxy(tiny_server.address, chance)) for _ in range(2))
        loaded = backend(one, two)

        async def run() -> list[Result]:
            async with asyncio.timeout(300):
                solving = asyncio.create_task(solve_all(loaded))
                while one.requests < 20:  # noqa: ASYNC110 (in a thread of its own)
                    await asyncio.sleep(0.01)
                assert not solving.done()
                await asyncio.to_thread(one.kill)
                results = await solving
            await loaded.close()
            return results

        results = asyncio.run(run())
        assert two.requests > one.requests
        check(results, loaded.capabilities.token_out)
        assert all(not result.errors for result in results)
        assert wait_until(lambda: tiny_server.busy() == 0, 2) < 2
