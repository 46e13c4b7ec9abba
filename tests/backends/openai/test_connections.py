"""Event loops and sockets of the OpenAI backend."""

import asyncio
import gc
import time

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.core.sampling import Sampling
from tests.support.contract import collect
from tests.support.fake_responses import FakeReply
from tests.support.faults import open_descriptors
from tests.support.openai_backends import (
    ANSWER,
    failure,
    generate,
    make_root,
    serve,
    settings,
    wait_for,
)


async def test_closing_leaves_no_task_and_no_socket() -> None:
    with serve(FakeReply(ANSWER * 5, delay=0.02)) as server:
        before = open_descriptors()
        backend = await OpenAIBackend.connect(settings(server))
        extension = backend.extend(ExtendRequest(await make_root(backend), tuple(range(20)), Sampling(max_tokens=200)))
        await anext(extension)
        await backend.close()
        heard = await collect(extension, 20)
        assert all(not failure(branch).retryable for branch in heard)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await wait_for(lambda: server.running == 0)
        await wait_for(lambda: open_descriptors() <= before + 1)  # the server closes its end of a connection later


def test_consecutive_event_loops_leave_nothing_open() -> None:
    with serve() as server:
        backend = OpenAIBackend.load(settings(server))

        async def answer() -> str:
            return (await generate(backend, await make_root(backend)))[0].text

        before = open_descriptors()
        assert [asyncio.run(answer()) for _ in range(5)] == [ANSWER] * 5
        gc.collect()  # open resources would cause a warning
        time.sleep(0.1)
        assert open_descriptors() <= before + 1
        asyncio.run(backend.close())
