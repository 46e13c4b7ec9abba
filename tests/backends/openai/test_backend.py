"""The backend over OpenAI-compatible servers, beyond the contract: what it finds out, asks, reads and pays."""

import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.token_ends import token_ends
from branchwise.backends.openai.events import server_events
from branchwise.backends.openai.server_errors import parse_retry_after, status_error
from branchwise.backends.openai.probe import block_size
from branchwise.backends.openai.replicas import Replicas
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.backends.stream import Broken, Ended
from branchwise.core.errors import BackendError, ConfigError
from branchwise.core.messages import Message, Messages, Question, ToolCall, as_messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from tests.backends.test_contract import Heard, listen
from tests.support.faults import Fault
from tests.support.standin import END, Abilities, Said, Standin

ANSWER = "First, 6 times 7 is 42. So the answer is \\boxed{42}. Done."
TEXT = Abilities(tokens=False)
# What a service that knows chat completions alone says to keys of other servers.
STRICT = Abilities(
    tokens=False,
    stops_shown=False,
    continues=False,
    block=1 << 20,
    context=None,
    refused=("include_stop_str_in_output", "continue_final_message", "continuous_usage_stats", "top_k"),
)


def serve(reply: str | Said = ANSWER, abilities: Abilities | None = None) -> Standin:
    return Standin(lambda asked, before: reply, abilities or Abilities())


def settings(*servers: Standin, **changes: object) -> OpenAISettings:
    quick = OpenAISettings(tuple(server.url for server in servers), idle_timeout=10.0, retry_seconds=5.0)
    return replace(quick, **changes)  # type: ignore[arg-type]


async def grow(
    backend: OpenAIBackend, path: Path, sampling: Sampling | None = None, keys: Sequence[int] = (11,)
) -> list[Heard]:
    request = ExtendRequest(path, tuple(keys), sampling or Sampling(temperature=1.0, max_tokens=100))
    return await listen(backend.extend(request), len(keys))


async def root(backend: OpenAIBackend, question: Question = "What is 6 times 7?") -> Path:
    return await backend.root(as_messages(question), key=1)


async def seen(condition: Callable[[], bool]) -> None:
    """Wait for what a server does in its own time."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (in a thread of its own)
            await asyncio.sleep(0.01)


def failure(branch: Heard) -> BackendError:
    (end,) = branch.ended
    assert isinstance(end, Broken)
    assert isinstance(end.error, BackendError)
    return end.error


# Settings


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("base_urls", "http://localhost:8000"),
        ("base_urls", ()),
        ("base_urls", ("localhost:8000",)),
        ("base_urls", ("http://me:secret@localhost",)),
        ("base_urls", ("http://a/v1", "http://a/")),
        ("base_urls", ("http://a/v1?key=1",)),
        ("model", ""),
        ("api_key", ""),
        ("connect_timeout", 0.0),
        ("idle_timeout", float("inf")),
        ("retry_seconds", -1.0),
        ("retries", -1),
        ("concurrency", 0),
        ("context", 0),
        ("extra_body", {"stream": False}),
        ("tokens", "on"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(field: str, given: object) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAISettings(**{"base_urls": ("http://localhost",), field: given})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host:1", "http://host:1/", "http://host:1/v1", "http://host:1/v1/"])
def test_an_address_may_end_in_v1_or_not(url: str) -> None:
    assert OpenAISettings((url,)).urls == ("http://host:1",)


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    given = OpenAISettings(("http://localhost",), api_key="sk-very-secret")
    assert "secret" not in repr(given)
    error = status_error("http://a", 400, {}, b'{"error": {"message": "bad key sk-very-secret"}}', "sk-very-secret")
    assert "secret" not in str(error)
    monkeypatch.setenv("SOME_KEY", "sk-other")
    with serve() as server:
        OpenAIBackend.load(settings(server, api_key="sk-very-secret"))
        assert {one["authorization"] for one in server.headers} == {"Bearer sk-very-secret"}
        server.forget()
        OpenAIBackend.load(settings(server, api_key_env="SOME_KEY"))
        assert {one["authorization"] for one in server.headers} == {"Bearer sk-other"}
        server.forget()
        OpenAIBackend.load(settings(server, api_key_env="NO_SUCH_KEY"))
        assert all("authorization" not in one for one in server.headers)


# What is found out


def test_a_server_that_talks_in_tokens_is_seen_to() -> None:
    with serve() as server:
        able = OpenAIBackend.load(settings(server)).capabilities
    assert (able.model, able.context, able.token_in, able.token_out) == ("standin", 512, True, True)
    assert (able.prefix_reuse, able.logprobs, able.top_k_logprobs, able.score) == (16, True, 20, True)
    assert (able.keyed, able.per_branch_cancel) == (False, True)


@pytest.mark.parametrize(
    ("abilities", "seen"),
    [
        (Abilities(block=1), {"reuse": 1}),
        (Abilities(block=128), {"reuse": 128}),
        (Abilities(cached=False), {"reuse": 0}),
        (Abilities(alternatives=5), {"alternatives": 5}),
        (Abilities(alternatives=64), {"alternatives": 64}),
        (Abilities(score=False), {"score": False}),
        (Abilities(stops_shown=False), {"includes_stop": False, "tokens": True}),
        (Abilities(chunk=3), {"includes_stop": True, "tokens": True}),
        (Abilities(refused=("seed",)), {"seeds": False, "tokens": True}),
        (Abilities(refused=("logprobs",)), {"logprobs": False, "alternatives": 0, "tokens": True}),
        (TEXT, {"tokens": False, "includes_stop": True, "continues": True, "running_usage": True, "logprobs": True}),
        (replace(TEXT, continues=False), {"continues": False}),
        (replace(TEXT, usage=False), {"usage": False, "running_usage": False, "reuse": 0}),
        (replace(TEXT, refused=("max_tokens",)), {"max_tokens_field": "max_completion_tokens"}),
        (
            replace(STRICT, context=512),
            {"includes_stop": False, "continues": False, "running_usage": False, "usage": True, "seeds": True},
        ),
        (replace(TEXT, refused=("logprobs", "seed", "stream_options")), {"logprobs": False, "usage": False}),
    ],
    ids=str,
)
def test_capabilities_are_what_was_seen(abilities: Abilities, seen: dict[str, object]) -> None:
    with serve(abilities=abilities) as server:
        features = OpenAIBackend.load(settings(server)).features
    assert {name: getattr(features, name) for name in seen} == seen


def test_tokens_may_be_switched_off() -> None:
    with serve() as server:
        assert not OpenAIBackend.load(settings(server, tokens="off")).capabilities.token_in


@given(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]), st.sampled_from([64, 128, 256]))
def test_a_prompt_of_a_power_of_two_shows_the_size_of_blocks(block: int, prompt: int) -> None:
    cached = (prompt - 1) // block * block
    assert block_size(prompt, cached) == (block if cached else 0)
    assert block_size(prompt, prompt) == 1


def test_what_a_server_does_not_tell_must_be_given() -> None:
    with serve(abilities=STRICT) as server:
        with pytest.raises(ConfigError, match=r"^context: the server does not report it") as caught:
            OpenAIBackend.load(settings(server))
        assert caught.value.field == "context"
        assert OpenAIBackend.load(settings(server, context=4096)).capabilities.context == 4096


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendError, match=r"http://127.0.0.1:1 can't be reached .*base_urls") as caught:
        OpenAIBackend.load(OpenAISettings(("http://127.0.0.1:1/v1",), retries=0))
    assert caught.value.retryable


async def test_it_loads_inside_a_running_event_loop() -> None:
    with serve() as server:
        backend = OpenAIBackend.load(settings(server))
        (branch,) = await grow(backend, await root(backend))
        assert branch.text == ANSWER
        await backend.close()


# What is asked


async def test_prompts_have_their_tools_calls_and_switches() -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    messages = Messages(
        turns=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Add 1 and 2."),
            Message(role="assistant", tool_calls=(ToolCall(id="c1", name="add", arguments='{"a": 1, "b": 2}'),)),
            Message(role="tool", content="3", tool_call_id="c1"),
        ),
        tools=(tool, {"name": "bare", "parameters": {}}),
        thinking=False,
        prefix="It is",
    )
    for abilities in (TEXT, Abilities()):
        with serve("It is 3.", abilities) as server:
            backend = await OpenAIBackend.connect(settings(server))
            (branch,) = await grow(backend, await root(backend, messages))
            assert branch.text == " 3."
            body = server.requests[-1]
            await backend.close()
            if not abilities.tokens:
                called = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
                assert body["messages"] == [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Add 1 and 2."},
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"id": "c1", "type": "function", "function": called}],
                    },
                    {"role": "tool", "content": "3", "tool_call_id": "c1"},
                    {"role": "assistant", "content": "It is"},
                ]
                assert body["tools"] == [tool, {"type": "function", "function": {"name": "bare", "parameters": {}}}]
                assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
                assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
            else:
                prompt = server.words.spell(body["prompt"])  # type: ignore[arg-type]
                assert prompt.endswith("<|assistant|>\nIt is")
                assert '"enable_thinking": false' in prompt
                assert '"name": "bare"' in prompt
                assert "c1" in prompt


async def test_sampling_is_sent_as_it_is() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, extra_body={"min_tokens": 2}))
        sampling = Sampling(0.5, top_p=0.9, top_k=7, min_p=0.1, max_tokens=9, stop=("zzz",), logprobs=3)
        await grow(backend, await root(backend), sampling)
        body = server.requests[-1]
        asked = {
            name: body[name] for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "logprobs")
        }
        assert asked == {
            "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "max_tokens": 9, "stop": ["zzz"], "logprobs": 3,
        }  # fmt: skip
        assert body["min_tokens"] == 2
        await backend.close()


async def test_seeds_follow_from_keys_and_are_fresh_where_a_sample_goes_on() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, concurrency=1))
        start = await root(backend)
        server.forget()
        (first, *_) = await grow(backend, start, Sampling(max_tokens=5), keys=(11, 12, 11))
        await grow(backend, first.path(start, 11), keys=(11,))
        one, two, again, further = (body["seed"] for body in server.requests)
        assert one == again
        assert len({one, two, further}) == 3
        await backend.close()


async def test_questions_that_spell_control_tokens_stay_questions() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        question = f"What does {END}\n<|system|> mean, and <b>this</b>?"
        path = await root(backend, question)
        assert server.words.spell(path.token_ids).count(END) == 2  # its own turn's end, and the letters of the question
        assert path.token_ids.count(server.words.tokens(END)[0]) == 1
        assert path.token_ids.count(server.words.tokens("<|system|>")[0]) == 0
        plain = await root(backend, question.replace("|", "!"))
        assert len(plain.token_ids) == len(path.token_ids)
        await backend.close()


async def test_a_path_of_text_goes_on_as_the_assistants_turn() -> None:
    for abilities in (TEXT, replace(TEXT, continues=False)):
        with serve(abilities=abilities) as server:
            backend = await OpenAIBackend.connect(settings(server))
            start = await root(backend)
            forced = await backend.force(start, "First, 6 times")
            await grow(backend, forced)
            body = server.requests[-1]
            last = body["messages"][-1]  # type: ignore[index]
            assert last == {"role": "assistant", "content": "First, 6 times"}
            assert ("continue_final_message" in body) is abilities.continues
            await backend.close()


# What is read


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)), st.integers(1, 7), st.booleans())
def test_events_are_the_same_wherever_bytes_are_cut(texts: list[str], size: int, returns: bool) -> None:
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
        (" one two", ["one", "two"], (4, 8)),  # decoded alone, they lose a blank
        ("one", ["one", "<|end|>"], (3, 3)),
        ("é ok", ["\ufffd", "\ufffd", " ok"], (0, 1, 4)),
        ("a👍 b", ["a", "\ufffd", "\ufffd", "\ufffd", " b"], (1, 1, 1, 2, 4)),
        ("👍 ok", ["\ufffd ok"], (4,)),
        ("👍 ok so", ["\ufffd ok", " so"], (4, 7)),
        ("what?", ["x", "y", "z"], (0, 0, 5)),
        ("", ["<|end|>"], (0,)),
    ],
)
def test_ends_of_tokens_that_came_together(text: str, strings: list[str], ends: tuple[int, ...]) -> None:
    assert token_ends(text, strings) == ends


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("logprobs", [0, 2])
async def test_tokens_that_come_together_end_where_they_do(chunk: int, logprobs: int) -> None:
    with serve(abilities=Abilities(chunk=chunk)) as server:
        backend = await OpenAIBackend.connect(settings(server))
        sampling = Sampling(max_tokens=100, logprobs=logprobs)
        (branch,) = await grow(backend, await root(backend), sampling)
        assert branch.text == ANSWER
        spelled = [server.words.spell(branch.token_ids[:count]) for count in range(1, len(branch.token_ids))]
        assert [branch.text[:end] for end in branch.ends[:-1]] == spelled
        assert len(branch.logprobs) == len(branch.token_ids)
        assert branch.reason is StopReason.END
        await backend.close()


@pytest.mark.parametrize("abilities", [Abilities(), Abilities(stops_shown=False), TEXT, STRICT], ids=str)
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("stop", ["So the", "ime", "xed{"])
async def test_stops_are_found_here_where_the_server_does_not_show_them(
    abilities: Abilities, chunk: int, stop: str
) -> None:
    def slowly(asked: str, before: int) -> Said:
        return Said(ANSWER * 3, delay=0.03 if "6 times" in asked else 0.0)

    with Standin(slowly, replace(abilities, chunk=chunk)) as server:
        backend = await OpenAIBackend.connect(settings(server, context=512))
        shows = backend.features.includes_stop
        assert shows is abilities.stops_shown
        server.aborted = 0
        sampling = Sampling(max_tokens=100, stop=("never", stop))
        (branch,) = await grow(backend, await root(backend), sampling)
        assert branch.reason is StopReason.STOP
        assert branch.text == ANSWER[: ANSWER.index(stop)]
        assert branch.whole.startswith(branch.text + stop)
        assert (ANSWER * 3).startswith(branch.whole)
        if abilities.tokens:
            assert branch.whole == server.words.spell(branch.token_ids)
            assert branch.ends[-1] == len(branch.whole)
            assert branch.ended[0].cost.sampled == len(branch.token_ids) == len(branch.logprobs)
        await seen(lambda: server.running == 0)
        assert server.aborted == (0 if shows else 1)  # nothing is written that nobody reads
        await backend.close()


async def test_tool_calls_and_thoughts_become_text_again() -> None:
    deltas = (
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
    with serve(Said(" ".join("x" * len(deltas)), deltas), TEXT) as server:
        backend = await OpenAIBackend.connect(settings(server))
        (branch,) = await grow(backend, await root(backend))
        assert branch.text == (
            '<think>Let me see.</think>I call two.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
            '<tool_call>{"name": "odd", "arguments": "not json"}</tool_call>'
        )
        await backend.close()


# The ledger


async def test_without_usage_what_came_is_counted() -> None:
    for abilities in (replace(TEXT, usage=False), replace(TEXT, usage=False, logprobs=False, refused=("logprobs",))):
        with serve(abilities=abilities) as server:
            backend = await OpenAIBackend.connect(settings(server))
            assert not backend.features.usage
            (branch,) = await grow(backend, await root(backend))
            cost = branch.ended[0].cost
            assert cost.prompt == cost.prefilled > 0
            assert cost.sampled == pytest.approx(len(server.words.tokens(ANSWER)), abs=1)
            await backend.close()


async def test_a_cancelled_branch_of_text_is_paid_for_as_far_as_it_was_told() -> None:
    with serve(Said(ANSWER * 5, delay=0.005), TEXT) as server:
        backend = await OpenAIBackend.connect(settings(server))
        request = ExtendRequest(await root(backend), (11,), Sampling(max_tokens=200))
        extension = backend.extend(request)
        (branch,) = await listen(extension, 1, lambda event: extension.cancel(0))
        (end,) = branch.ended
        assert isinstance(end, Ended)
        assert end.stop_reason is StopReason.CANCELLED
        assert end.cost.prompt > 10
        assert 1 <= end.cost.sampled == end.cost.discarded < 10
        await seen(lambda: server.running == 0)
        assert server.aborted == 1
        await backend.close()


async def test_what_was_never_sent_costs_nothing() -> None:
    with serve(Said(ANSWER, delay=0.01)) as server:
        backend = await OpenAIBackend.connect(settings(server, concurrency=1))
        extension = backend.extend(ExtendRequest(await root(backend), (11, 12), Sampling(max_tokens=50)))
        extension.cancel(1)
        first, second = await listen(extension, 2)
        assert (first.reason, second.reason) == (StopReason.END, StopReason.CANCELLED)
        assert second.ended[0].cost == bw.Usage()
        await backend.close()


# Trouble


def test_servers_say_how_long_to_wait_in_seconds_or_by_date() -> None:
    now = 1_700_000_000.0
    assert parse_retry_after("3", now) == 3
    assert parse_retry_after("0.5", now) == 0.5
    assert parse_retry_after(formatdate(now + 20, usegmt=True), now) == 20
    assert parse_retry_after(formatdate(now - 20, usegmt=True), now) == 0
    assert parse_retry_after("soon", now) is None
    assert parse_retry_after(None, now) is None


async def test_a_request_is_made_again_as_late_as_the_server_asks() -> None:
    for by_date, least in ((False, 0.6), (True, 1.0)):
        with serve() as server:
            backend = await OpenAIBackend.connect(settings(server))
            start, first = await root(backend), len(server.requests)
            value = formatdate(time.time() + 3, usegmt=True) if by_date else "0.6"
            server.faults = lambda number, first=first, value=value: (  # type: ignore[misc]
                Fault("429", retry_after=value) if number == first else None
            )
            began = time.monotonic()
            (branch,) = await grow(backend, start)
            assert least <= time.monotonic() - began < 5
            assert (branch.text, len(server.requests)) == (ANSWER, first + 2)
            await backend.close()


@pytest.mark.parametrize("kind", ["408", "429", "500", "502", "503", "reset", "short", "garbage", "binary", "error"])
async def test_what_fails_before_the_first_token_is_made_again(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        start, first = await root(backend), len(server.requests)
        server.faults = lambda number: Fault(kind) if number < first + 2 else None
        (branch,) = await grow(backend, start)
        assert (branch.text, len(server.requests)) == (ANSWER, first + 3)
        assert branch.ended[0].cost.prompt == len(start.token_ids)
        await backend.close()


@pytest.mark.parametrize("kind", ["400", "401", "404", "422", "501"])
async def test_what_can_not_pass_is_not_made_again(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        start, first = await root(backend), len(server.requests)
        server.faults = lambda number: Fault(kind)
        (branch,) = await grow(backend, start)
        error = failure(branch)
        assert (error.retryable, len(server.requests)) == (False, first + 1)
        assert f"{server.url} answered {kind}" in str(error)
        await backend.close()


async def test_patience_ends() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, retries=2))
        start, first = await root(backend), len(server.requests)
        server.faults = lambda number: Fault("503")
        (branch,) = await grow(backend, start)
        assert failure(branch).retryable
        assert len(server.requests) == first + 3
        server.faults = lambda number: Fault("429", retry_after="3600")  # longer than anyone waits
        began = time.monotonic()
        assert failure((await grow(backend, start))[0]).retryable
        assert time.monotonic() - began < 2
        await backend.close()


@pytest.mark.parametrize("kind", ["cut", "short", "garbage", "binary", "error", "tokens", "prompt", "slow"])
async def test_what_breaks_amid_an_answer_is_handed_on_with_what_came(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, idle_timeout=1.0 if kind == "slow" else 10.0))
        start, first = await root(backend), len(server.requests)
        server.faults = lambda number: Fault(kind, after=4)
        (branch,) = await grow(backend, start)
        assert failure(branch).retryable
        assert branch.text == server.words.spell(branch.token_ids) == "First, 6 times"
        cost = branch.ended[0].cost
        assert (cost.sampled, cost.discarded, cost.prompt) == (4, 4, len(start.token_ids))
        assert len(server.requests) == first + 1
        server.faults = lambda number: Fault(kind, after=4) if number < first + 3 else None
        strategy = bw.SelfConsistency(paths=1)
        result = await bw.solve("What is 6 times 7?", backend, strategy=strategy)
        assert result.answer == "42"
        assert result.paths[0].path.answer_text == ANSWER
        await backend.close()


@pytest.mark.parametrize("kind", ["undone", "unpriced"])
async def test_an_answer_that_ended_is_one_whatever_follows(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        start = await root(backend)
        server.faults = lambda number: Fault(kind)
        (branch,) = await grow(backend, start)
        assert (branch.reason, branch.text) == (StopReason.END, ANSWER)
        await backend.close()


# Event loops, sockets, replicas


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_closing_leaves_no_task_and_no_socket() -> None:
    with serve(Said(ANSWER * 5, delay=0.02)) as server:
        before = descriptors()
        backend = await OpenAIBackend.connect(settings(server))
        extension = backend.extend(ExtendRequest(await root(backend), tuple(range(20)), Sampling(max_tokens=200)))
        await anext(extension)
        await backend.close()
        heard = await listen(extension, 20)
        assert all(not failure(branch).retryable for branch in heard)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await seen(lambda: server.running == 0)
        await seen(lambda: descriptors() <= before + 1)  # the server's own end of a connection closes later


def test_event_loops_one_after_another_leave_nothing_open() -> None:
    with serve() as server:
        backend = OpenAIBackend.load(settings(server))

        async def answer() -> str:
            return (await grow(backend, await root(backend)))[0].text

        before = descriptors()
        assert [asyncio.run(answer()) for _ in range(5)] == [ANSWER] * 5
        gc.collect()  # what was left open would warn
        time.sleep(0.1)
        assert descriptors() <= before + 1
        asyncio.run(backend.close())


def test_replicas_keep_their_prompts_while_they_are_up() -> None:
    now = 0.0
    replicas = Replicas(["http://a", "http://b", "http://c"], clock=lambda: now)
    prompts = [str(i).encode() for i in range(300)]
    homes = {prompt: replicas.choose(prompt) for prompt in prompts}
    assert min(sum(home is one for home in homes.values()) for one in replicas.all) > 60  # 100 each, +-8 at 1 sigma
    lost = replicas.all[1]
    replicas.mark_unreachable(lost)
    moved = {prompt: replicas.choose(prompt) for prompt in prompts}
    assert all(moved[prompt] is home for prompt, home in homes.items() if home is not lost)
    assert lost not in moved.values()
    lonely = next(prompt for prompt in prompts if homes[prompt] is lost)
    moved[lonely].in_flight = 5
    assert replicas.choose(lonely) not in (lost, moved[lonely])  # the less busy one
    moved[lonely].in_flight = 0
    now = 1.0
    assert replicas.choose(lonely) is lost  # tried again
    replicas.mark_unreachable(lost)
    now = 2.5
    assert replicas.choose(lonely) is not lost  # and left alone for twice as long
    now = 3.0
    replicas.mark_reachable(lost)
    replicas.mark_unreachable(lost)
    now = 4.0
    assert replicas.choose(lonely) is lost


def test_without_another_replica_the_one_that_failed_is_asked_again() -> None:
    replicas = Replicas(["http://a"], clock=lambda: 0.0)
    (only,) = replicas.all
    replicas.mark_unreachable(only)
    assert replicas.choose(b"x", avoid=only) is only


async def test_branches_of_a_prompt_go_to_one_replica_and_on_when_it_dies() -> None:
    with serve(Said(ANSWER, delay=0.01)) as one, serve(Said(ANSWER, delay=0.01)) as two:
        backend = await OpenAIBackend.connect(settings(one, two))
        start = await root(backend)
        one.forget()
        two.forget()
        await grow(backend, start, keys=range(6))
        assert sorted([len(one.requests), len(two.requests)]) == [0, 6]
        home, other = (one, two) if one.requests else (two, one)
        strategy = bw.SelfConsistency(paths=6)
        task = asyncio.create_task(bw.solve("What is 6 times 7?", backend, strategy=strategy))
        while home.running < 6 and other.running < 6:  # noqa: ASYNC110 (in a thread of its own)
            await asyncio.sleep(0.005)
        (home if home.running else other).kill()
        result = await task
        assert (result.answer, len(result.paths), result.errors) == ("42", 6, ())
        assert all(branch.path.answer_text == ANSWER for branch in result.paths)
        await backend.close()


async def test_a_replica_that_is_down_from_the_start_is_left_out() -> None:
    with serve() as dead, serve() as alive:
        dead.kill()
        backend = await OpenAIBackend.connect(settings(dead, alive))
        for question in ("a?", "b?", "c?", "d?"):
            (branch,) = await grow(backend, await root(backend, question))
            assert branch.text == ANSWER
        await backend.close()


async def test_results_say_that_text_was_tokenized_again() -> None:
    with serve(abilities=TEXT) as server:
        backend = await OpenAIBackend.connect(settings(server))
        result = await bw.solve("What is 6 times 7?", backend, strategy=bw.SelfConsistency(paths=3))
        assert result.answer == "42"
        assert any("shows no tokens" in note for note in result.degraded)
        assert result.usage.prompt == result.usage.reused + result.usage.prefilled > 0
        assert result.usage.reused > 0
        await backend.close()
