"""Responses that the OpenAI backend reads: events, token ends, stop strings, thoughts and tool calls."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.events import server_events
from branchwise.backends.openai.token_ends import token_ends
from branchwise.core.path import StopReason
from branchwise.core.sampling import Sampling
from tests.support.fake_responses import FakeReply
from tests.support.fake_server import FakeFeatures, FakeServer
from tests.support.fake_tokenizer import Json
from tests.support.openai_backends import (
    ANSWER,
    STRICT,
    TEXT,
    generate,
    make_root,
    serve,
    settings,
    wait_for,
)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)), st.integers(1, 7), st.booleans())
def test_events_do_not_depend_on_the_cuts_between_chunks(texts: list[str], size: int, returns: bool) -> None:
    payloads = [json.dumps(text, ensure_ascii=False).encode() for text in texts]
    end = b"\r\n" if returns else b"\n"
    stream = b"".join(b": ping" + end + end + b"event: x" + end + b"data: " + one + end + end for one in payloads)

    async def cut() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), size):
            yield stream[start : start + size]

    async def read() -> list[bytes]:
        return [event async for event in server_events(cut())]

    assert asyncio.run(read()) == payloads


@pytest.mark.parametrize(
    ("text", "strings", "ends"),
    [
        ("one two", ["one", " two"], (3, 7)),
        (" one two", ["one", "two"], (4, 8)),  # decoded alone, tokens lose a blank
        ("one", ["one", "<|end|>"], (3, 3)),
        ("é ok", ["\ufffd", "\ufffd", " ok"], (0, 1, 4)),
        ("a👍 b", ["a", "\ufffd", "\ufffd", "\ufffd", " b"], (1, 1, 1, 2, 4)),
        ("👍 ok", ["\ufffd ok"], (4,)),
        ("👍 ok so", ["\ufffd ok", " so"], (4, 7)),
        ("what?", ["x", "y", "z"], (0, 0, 5)),
        ("", ["<|end|>"], (0,)),
    ],
)
def test_token_ends_in_a_shared_text(text: str, strings: list[str], ends: tuple[int, ...]) -> None:
    assert token_ends(text, strings) == ends


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("logprobs", [0, 2])
async def test_tokens_of_one_event_have_their_own_ends(chunk: int, logprobs: int) -> None:
    with serve(features=FakeFeatures(chunk=chunk)) as server:
        backend = await OpenAIBackend.connect(settings(server))
        sampling = Sampling(max_tokens=100, logprobs=logprobs)
        (branch,) = await generate(backend, await make_root(backend), sampling)
        assert branch.text == ANSWER
        spelled = [server.tokenizer.decode(branch.token_ids[:count]) for count in range(1, len(branch.token_ids))]
        assert [branch.text[:end] for end in branch.ends[:-1]] == spelled
        assert len(branch.logprobs) == len(branch.token_ids)
        assert branch.stop_reason is StopReason.END
        await backend.close()


@pytest.mark.parametrize("features", [FakeFeatures(), FakeFeatures(includes_stop=False), TEXT, STRICT], ids=str)
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("stop", ["So the", "ime", "xed{"])
async def test_stop_strings_end_a_branch_on_every_server(features: FakeFeatures, chunk: int, stop: str) -> None:
    def slowly(prompt: str, before: int) -> FakeReply:
        return FakeReply(ANSWER * 3, delay=0.03 if "6 times" in prompt else 0.0)

    with FakeServer(slowly, replace(features, chunk=chunk)) as server:
        backend = await OpenAIBackend.connect(settings(server, context=512))
        includes_stop = backend.features.includes_stop
        assert includes_stop is features.includes_stop
        server.aborted = 0
        sampling = Sampling(max_tokens=100, stop=("never", stop))
        (branch,) = await generate(backend, await make_root(backend), sampling)
        assert branch.stop_reason is StopReason.STOP
        assert branch.text == ANSWER[: ANSWER.index(stop)]
        assert branch.whole_text.startswith(branch.text + stop)
        assert (ANSWER * 3).startswith(branch.whole_text)
        if features.tokens:
            assert branch.whole_text == server.tokenizer.decode(branch.token_ids)
            assert branch.ends[-1] == len(branch.whole_text)
            assert branch.ended[0].cost.sampled == len(branch.token_ids) == len(branch.logprobs)
        await wait_for(lambda: server.running == 0)
        assert server.aborted == (0 if includes_stop else 1)  # the server does not continue
        await backend.close()


async def test_tool_calls_and_thoughts_become_text() -> None:
    deltas: tuple[Json, ...] = (
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Let me "},
        {"reasoning": "see."},
        {"content": "I call"},
        {"content": " two."},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "add", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "odd", "arguments": "not json"}}]},
        {},
    )
    with serve(FakeReply(" ".join("x" * len(deltas)), deltas), TEXT) as server:
        backend = await OpenAIBackend.connect(settings(server))
        (branch,) = await generate(backend, await make_root(backend))
        assert branch.text == (
            '<think>Let me see.</think>I call two.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
            '<tool_call>{"name": "odd", "arguments": "not json"}</tool_call>'
        )
        await backend.close()
