"""Streamed replies: text token by token, the standing of a vote, reasoning, and errors."""

import itertools

import openai
import pytest
from pydantic import JsonValue

from branchwise.backends.engine.engine import Engine
from branchwise.backends.scripted.backend import Reply
from tests.support.serving_lab import CHAT, RIGHT, WRONG, chat_body, events, scripted, serving


async def test_plain_stream_sends_each_token() -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01))) as served:
        stream = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "6 * 7?"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(texts) == RIGHT
    assert len(texts) == 11
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None] * (len(chunks) - 2) + [
        "stop"
    ]
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 11)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_stream_sends_usage_so_far() -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01), Reply(WRONG, delay=0.01))) as served:
        options: JsonValue = {"include_usage": True, "continuous_usage_stats": True}
        chunks = events((await served.chat(n=2, stream=True, stream_options=options)).text)
        without_options = events((await served.chat(stream=True)).text)
    usages = [chunk["usage"] for chunk in chunks if any(choice["delta"].get("content") for choice in chunk["choices"])]
    counts = [usage["completion_tokens"] for usage in usages]
    assert (counts, counts[-1]) == (sorted(counts), 11 + 9)
    assert 1 <= counts[0] <= 4
    assert {usage["prompt_tokens"] for usage in usages} == {chunks[-1]["usage"]["prompt_tokens"]}
    assert not any("usage" in chunk for chunk in without_options)


async def test_stream_keeps_choices_apart() -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01), Reply(WRONG, delay=0.01))) as served:
        chunks = events((await served.chat(n=2, stream=True)).text)
    texts = {0: "", 1: ""}
    for choice in itertools.chain.from_iterable(chunk["choices"] for chunk in chunks):
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {0: RIGHT, 1: WRONG}
    assert [choice["finish_reason"] for chunk in chunks[-2:] for choice in chunk["choices"]] == ["stop", "stop"]


async def test_strategy_stream_sends_standings_then_text() -> None:
    slow = Reply(RIGHT, delay=0.05)
    async with serving(scripted(Reply(WRONG), slow, slow)) as served:
        key: JsonValue = {"strategy": "self-consistency", "paths": 3}
        options: JsonValue = {"include_usage": True}
        chunks = events((await served.chat(stream=True, stream_options=options, branchwise=key)).text)
    standing = [chunk["branchwise"] for chunk in chunks[1:-3]]
    assert standing
    assert standing[0]["answer"] == "41"
    assert standing[-1]["paths_ended"] == 1 < standing[-1]["paths_started"] == 3
    assert standing[-1]["sampled"] > standing[0]["sampled"]
    assert chunks[-3]["choices"][0]["delta"] == {"content": RIGHT}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["branchwise"]["votes"] == {"42": 2.0, "41": 1.0}
    assert chunks[-1]["usage"]["completion_tokens"] == chunks[-2]["branchwise"]["usage"]["sampled"]


@pytest.mark.parametrize("key", [{"strategy": "greedy"}, {"paths": 1}])
async def test_single_path_strategy_streams_tokens(key: JsonValue) -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01))) as served:
        chunks = events((await served.chat(stream=True, branchwise=key)).text)
    texts = [text for chunk in chunks[:-1] if (text := chunk["choices"][0]["delta"].get("content"))]
    assert ("".join(texts), len(texts)) == (RIGHT, 11)
    assert chunks[-1]["branchwise"]["answer"] == "42"


THINKING = "<think>\nSix sevens.\n</think>\n\nThe answer is 42.\n"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, {"strategy": "self-consistency", "paths": 2}])
async def test_reasoning_is_sent_apart_from_content(key: JsonValue, stream: bool) -> None:
    async with serving(scripted(THINKING)) as served:
        response = await served.chat(branchwise=key, stream=stream)
    if stream:
        deltas = [choice["delta"] for chunk in events(response.text) for choice in chunk["choices"]]
        text = "".join(delta.get("content", "") for delta in deltas)
        reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
    else:
        message = response.json()["choices"][0]["message"]
        text, reasoning = message["content"], message["reasoning_content"]
    assert (text, reasoning) == ("The answer is 42.", "Six sevens.")


async def test_failure_during_a_stream_is_an_event() -> None:
    async with serving(scripted(Reply(RIGHT, fail_after=5, delay=0.01))) as served:
        response = await served.chat(stream=True)
        assert events(response.text)[-1]["error"]["type"] == "server_error"
        stream = await served.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "q"}], stream=True
        )
        with pytest.raises(openai.APIError, match="the script says so"):
            async for _ in stream:
                pass


async def test_stream_and_reply_agree(tiny_engine: Engine) -> None:
    keys: list[JsonValue] = [
        None,
        {"strategy": "greedy"},
        {"strategy": "path-consistency", "paths": 4},
        {"strategy": "beam", "paths": 4},
    ]
    for key in keys:
        async with serving(tiny_engine) as served:
            body = chat_body(model="tiny", max_tokens=16, seed=1, branchwise=key)
            whole = (await served.http.post(CHAT, json=body)).json()
            chunks = events((await served.http.post(CHAT, json={**body, "stream": True})).text)
        text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
        assert text == whole["choices"][0]["message"]["content"]
        for name in ("answer", "votes", "outcome", "seed", "strategy"):
            assert chunks[-1]["branchwise"].get(name) == whole["branchwise"].get(name)
