"""Admission of questions: waiting, rejection and leaving the queue."""

import asyncio

import openai
import pytest
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.limits import Limits
from tests.support.serving_lab import close_connection, events, open_chat, serving, slow_backend, wait_until


async def test_disconnect_while_queued_leaves_the_queue() -> None:
    backend = slow_backend()
    async with serving(backend, Limits(questions=1)) as served:
        for stream in (False, True):
            first = await open_chat(served)
            await wait_until(lambda: served.queue.running == 1)
            second = await open_chat(served, stream=stream)
            await wait_until(lambda: served.queue.queued == 1)
            await close_connection(second[1])
            await wait_until(lambda: served.queue.queued == 0)
            assert (served.queue.running, len(backend.running)) == (1, 1)
            await close_connection(first[1])
            await wait_until(lambda: not served.queue.running)
        assert not backend.running


async def test_question_waits_for_a_slot() -> None:
    backend = ScriptedBackend({"": [Reply("The answer is 42.", delay=0.02)]})
    async with serving(backend, Limits(questions=1, queue=3)) as served:
        asking = [asyncio.create_task(served.chat()) for _ in range(4)]
        await wait_until(lambda: served.queue.queued == 3)
        assert [response.status_code for response in await asyncio.gather(*asking)] == [200] * 4


@pytest.mark.parametrize("stream", [False, True])
async def test_full_queue_rejects_with_retry_after(stream: bool) -> None:
    async with serving(slow_backend(), Limits(questions=1, queue=1)) as served:
        others = [await open_chat(served)]
        await wait_until(lambda: served.queue.running == 1)
        others.append(await open_chat(served))
        await wait_until(lambda: served.queue.queued == 1)
        response = await served.chat(stream=stream)
        assert response.status_code == 429
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert response.json()["error"]["type"] == "rate_limit_error"
        with pytest.raises(openai.RateLimitError):
            await served.client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "q"}])
        for _, writer in others:
            await close_connection(writer)


async def test_waiting_is_limited() -> None:
    async with serving(slow_backend(), Limits(questions=1, queue_seconds=0.1)) as served:
        _, writer = await open_chat(served)
        await wait_until(lambda: served.queue.running == 1)
        response = await served.chat()
        assert (response.status_code, "retry-after" in response.headers) == (429, True)
        assert served.queue.queued == 0
        await close_connection(writer)


async def test_64_concurrent_questions_keep_their_answers() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        assert path.root.messages is not None
        number = path.root.messages.turns[-1].content
        return Reply(f"I was chunks {number}. The answer is {number}.", delay=0.002)

    backend = ScriptedBackend(reply)
    most = 0

    async def watch(queue: asyncio.Event) -> None:
        nonlocal most
        while not queue.is_set():
            most = max(most, served.queue.running)
            await asyncio.sleep(0.002)

    async with serving(backend, Limits(questions=6, queue=64)) as served:
        over = asyncio.Event()
        watching = asyncio.create_task(watch(over))
        key: JsonValue = {"strategy": "self-consistency", "paths": 3}

        async def ask(number: int) -> tuple[str, str]:
            turns: JsonValue = [{"role": "user", "content": f"{number}"}]
            stream = number % 2 == 1
            response = await served.chat(messages=turns, branchwise=key, stream=stream)
            chunks = events(response.text)[-1] if stream else response.json()
            return f"{number}", chunks["branchwise"]["answer"]

        answers = await asyncio.gather(*map(ask, range(64)))
        over.set()
        await watching
    assert all(asked_for == answered for asked_for, answered in answers)
    assert most == 6
    assert not backend.running
