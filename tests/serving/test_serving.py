"""Chat completions over HTTP, asked by OpenAI's own client and by hand."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.reasoning import ThoughtSplitter
from branchwise.chat.responder import spoken
from branchwise.serving.limits import Limits
from tests.support.serving_lab import CHAT, QUESTION, asked, events, serving

RIGHT, WRONG = "Six times seven is 42. The answer is 42.", "It is 41. The answer is 41."
FULL = bw.Capabilities(model="scripted", context=10_000)
TOOL: dict[str, JsonValue] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PARIS = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ROME = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
TIDES = '<tool_call>\n{"name": "tides", "arguments": {"city": "Rome"}}\n</tool_call>'


def chosen(tool: str) -> dict[str, JsonValue]:
    """A `tool_choice` that names it."""
    return {"type": "function", "function": {"name": tool}}


def scripted(*replies: str | Reply, able: bw.Capabilities = FULL) -> ScriptedBackend:
    """Replies in turn at the prompt; after a prefix, the right answer."""
    turns = itertools.cycle(replies)

    def reply(path: bw.Path, before: int) -> str | Reply:
        return " So the answer is 42." if path.parent is not None else next(turns)

    return ScriptedBackend(reply, capabilities=able)


class Prompts(ScriptedBackend):
    """Remembers what it was asked."""

    def __init__(self, *replies: str | Reply) -> None:
        super().__init__({"": replies})
        self.asked: list[bw.Messages] = []

    async def root(self, messages: bw.Messages, key: int) -> bw.Path:
        self.asked.append(messages)
        return await super().root(messages, key)


def balances(usage: dict[str, JsonValue]) -> bool:
    """The equations of the ledger."""
    count = {name: value for name, value in usage.items() if isinstance(value, int)}
    return (
        count["prompt"] == count["reused"] + count["prefilled"]
        and count["discarded"] <= count["sampled"]
        and count["accepted"] <= min(count["sampled"], count["drafted"])
    )


async def test_a_plain_question_is_one_sample() -> None:
    async with serving(scripted(RIGHT, WRONG)) as served:
        reply = await served.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "6 * 7?"}]
        )
    assert (reply.object, reply.model, len(reply.choices)) == ("chat.completion", "scripted", 1)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (RIGHT, "stop")
    assert reply.choices[0].message.tool_calls is None
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 11
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 11


async def test_n_are_so_many_samples_of_one_prompt() -> None:
    async with serving(scripted(RIGHT, WRONG)) as served:
        body = (await served.ask(n=3)).json()
    assert [choice["message"]["content"] for choice in body["choices"]] == [RIGHT, WRONG, RIGHT]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == body["branchwise"]["usage"]["sampled"] == 11 + 9 + 11
    assert "answer" not in body["branchwise"]


async def test_sampling_is_as_it_is_asked_for() -> None:
    async with serving(scripted(RIGHT)) as served:
        cut = (await served.ask(max_completion_tokens=4)).json()["choices"][0]
        stopped = (await served.ask(stop="42", temperature=0.2, top_p=0.9, seed=3)).json()["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("Six times seven is", "length")
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("Six times seven is ", "stop")


async def test_the_key_asks_for_a_strategy() -> None:
    async with serving(scripted(WRONG, RIGHT, RIGHT)) as served:
        reply = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "6 * 7?"}],
            extra_body={"branchwise": {"strategy": "self-consistency", "paths": 3}},
        )
    told = (reply.model_extra or {})["branchwise"]
    assert reply.choices[0].message.content == RIGHT
    assert (told["answer"], told["votes"], told["outcome"]) == ("42", {"42": 2.0, "41": 1.0}, "complete")
    assert told["confidence"] > 0.5
    assert "paths" not in told
    assert balances(told["usage"])
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == told["usage"]["prompt"] > 0
    assert reply.usage.completion_tokens == told["usage"]["sampled"] == 9 + 11 + 11
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == told["usage"]["reused"] > 0


@pytest.mark.parametrize(
    ("model", "key", "strategy", "paths"),
    [
        ("scripted@self-consistency", None, "self-consistency", 8),
        ("scripted@esc:window=2", {"paths": 4}, "esc:window=2", 2),
        ("scripted", {}, "adaptive-path-consistency", 2),
        ("scripted", {"strategy": "greedy"}, "greedy", 1),
    ],
)
async def test_a_model_s_name_may_have_the_strategy(model: str, key: JsonValue, strategy: str, paths: int) -> None:
    async with serving(scripted(RIGHT)) as served:
        body = (await served.ask(model=model, branchwise=key)).json()
    assert (body["model"], body["branchwise"]["strategy"], body["branchwise"]["answer"]) == (model, strategy, "42")
    assert body["branchwise"]["votes"] == {"42": paths}


async def test_details_have_every_path_and_the_tree() -> None:
    key: JsonValue = {"strategy": "self-consistency", "paths": 2, "details": True}
    async with serving(scripted(RIGHT, WRONG)) as served:
        told = (await served.ask(branchwise=key)).json()["branchwise"]
    assert [path["text"] for path in told["paths"]] == [RIGHT, WRONG]
    assert len(told["tree"]) == 3


async def test_a_plain_stream_comes_token_by_token() -> None:
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


async def test_a_stream_tells_what_was_spent_so_far() -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01), Reply(WRONG, delay=0.01))) as served:
        asked: JsonValue = {"include_usage": True, "continuous_usage_stats": True}
        told = events((await served.ask(n=2, stream=True, stream_options=asked)).text)
        unasked = events((await served.ask(stream=True)).text)
    spoken = [chunk["usage"] for chunk in told if any(choice["delta"].get("content") for choice in chunk["choices"])]
    counts = [usage["completion_tokens"] for usage in spoken]
    assert (counts, counts[-1]) == (sorted(counts), 11 + 9)
    assert 1 <= counts[0] <= 4
    assert {usage["prompt_tokens"] for usage in spoken} == {told[-1]["usage"]["prompt_tokens"]}
    assert not any("usage" in chunk for chunk in unasked)


async def test_a_stream_of_several_choices_tells_them_apart() -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01), Reply(WRONG, delay=0.01))) as served:
        told = events((await served.ask(n=2, stream=True)).text)
    texts = {0: "", 1: ""}
    for choice in itertools.chain.from_iterable(chunk["choices"] for chunk in told):
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {0: RIGHT, 1: WRONG}
    assert [choice["finish_reason"] for chunk in told[-2:] for choice in chunk["choices"]] == ["stop", "stop"]


async def test_a_strategy_s_stream_says_how_it_stands_and_then_the_text() -> None:
    slow = Reply(RIGHT, delay=0.05)
    async with serving(scripted(Reply(WRONG), slow, slow)) as served:
        key: JsonValue = {"strategy": "self-consistency", "paths": 3}
        options: JsonValue = {"include_usage": True}
        told = events((await served.ask(stream=True, stream_options=options, branchwise=key)).text)
    standing = [chunk["branchwise"] for chunk in told[1:-3]]
    assert standing
    assert standing[0]["answer"] == "41"
    assert standing[-1]["paths_ended"] == 1 < standing[-1]["paths_started"] == 3
    assert standing[-1]["sampled"] > standing[0]["sampled"]
    assert told[-3]["choices"][0]["delta"] == {"content": RIGHT}
    assert told[-2]["choices"][0]["finish_reason"] == "stop"
    assert told[-2]["branchwise"]["votes"] == {"42": 2.0, "41": 1.0}
    assert told[-1]["usage"]["completion_tokens"] == told[-2]["branchwise"]["usage"]["sampled"]


@pytest.mark.parametrize("key", [{"strategy": "greedy"}, {"paths": 1}])
async def test_a_strategy_of_one_path_streams_its_tokens(key: JsonValue) -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.01))) as served:
        told = events((await served.ask(stream=True, branchwise=key)).text)
    texts = [text for chunk in told[:-1] if (text := chunk["choices"][0]["delta"].get("content"))]
    assert ("".join(texts), len(texts)) == (RIGHT, 11)
    assert told[-1]["branchwise"]["answer"] == "42"


THINKING = "<think>\nSix sevens.\n</think>\n\nThe answer is 42.\n"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, {"strategy": "self-consistency", "paths": 2}])
async def test_thoughts_are_told_apart(key: JsonValue, stream: bool) -> None:
    async with serving(scripted(THINKING)) as served:
        response = await served.ask(branchwise=key, stream=stream)
    if stream:
        deltas = [choice["delta"] for chunk in events(response.text) for choice in chunk["choices"]]
        text = "".join(delta.get("content", "") for delta in deltas)
        thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas)
    else:
        message = response.json()["choices"][0]["message"]
        text, thoughts = message["content"], message["reasoning_content"]
    assert (text, thoughts) == ("The answer is 42.", "Six sevens.")


@given(
    text=st.text(st.sampled_from("<think>/ \nab"), max_size=30).filter(lambda text: "think>" not in text),
    thoughts=st.none() | st.text(st.sampled_from("<thk/ \nab"), max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    enabled=st.sampled_from([None, True]),
)
def test_a_growing_text_is_split_as_the_whole_one(
    text: str, thoughts: str | None, cuts: Sequence[int], enabled: bool | None
) -> None:
    whole = text if thoughts is None else f"<think>{thoughts}</think>{text}"
    thinking = bw.Thinking(enabled)
    splitter = ThoughtSplitter(thinking)
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    pieces = [splitter.add(whole[start:end]) for start, end in itertools.pairwise(places)]
    pieces.append(splitter.end())
    said = spoken(whole, thinking)
    assert "".join(piece.text for piece in pieces) == said.text
    assert "".join(piece.thoughts for piece in pieces) == said.thoughts


async def test_tools_are_called_by_a_vote_on_the_call() -> None:
    spaced = '<tool_call>{"arguments":{"city":"Paris"},"name":"weather"}</tool_call>'
    async with serving(scripted(ROME, PARIS, spaced)) as served:
        reply = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "What's the weather in Paris?"}],
            tools=[TOOL],  # type: ignore[list-item]
            extra_body={"branchwise": {"strategy": "self-consistency", "paths": 3}},
        )
    message = reply.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    assert (reply.choices[0].finish_reason, message.content) == ("tool_calls", None)


@pytest.mark.parametrize("choice", ["required", chosen("weather")])
async def test_where_a_tool_must_be_called_calls_alone_have_a_vote(choice: JsonValue) -> None:
    backend = Prompts("I'd rather talk.", "No.", PARIS, "No.", TIDES)
    tools: JsonValue = [TOOL, {**TOOL, "function": {"name": "tides"}}]
    async with serving(backend) as served:
        key: JsonValue = {"strategy": "self-consistency", "paths": 5}
        reply = (await served.ask(tools=tools, tool_choice=choice, branchwise=key)).json()
        stream = events((await served.ask(tools=tools, tool_choice=choice, branchwise=key, stream=True)).text)
    calls = reply["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather"]
    assert reply["choices"][0]["finish_reason"] == stream[-1]["choices"][0]["finish_reason"] == "tool_calls"
    offered = [TOOL] if choice != "required" else tools
    assert [list(messages.tools) for messages in backend.asked] == [offered, offered]
    assert sum(reply["branchwise"]["votes"].values()) == (2 if choice == "required" else 1)


@pytest.mark.parametrize("key", [None, {"strategy": "self-consistency", "paths": 3}])
async def test_a_stream_tells_calls_and_not_how_they_are_written(key: JsonValue) -> None:
    async with serving(scripted(f"Let me look.\n{PARIS}")) as served:
        stream = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "What's the weather in Paris?"}],
            tools=[TOOL],  # type: ignore[list-item]
            stream=True,
            extra_body={"branchwise": key},
        )
        deltas = [chunk.choices[0] async for chunk in stream if chunk.choices]
    assert "".join(each.delta.content or "" for each in deltas) == "Let me look."
    (call,) = [call for each in deltas for call in each.delta.tool_calls or ()]
    assert call.function is not None
    assert (call.index, call.function.name) == (0, "weather")
    assert deltas[-1].finish_reason == "tool_calls"


async def test_the_chat_s_calls_and_their_results_reach_the_prompt() -> None:
    call: JsonValue = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns: JsonValue = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ]
    backend = Prompts("It is sunny.")
    async with serving(backend) as served:
        for tools in ("auto", "none"):
            response = await served.ask(messages=turns, tools=[TOOL], tool_choice=tools)
            assert response.json()["choices"][0]["message"]["content"] == "It is sunny."
    first, second = backend.asked
    assert [turn.role for turn in first.turns] == ["system", "user", "assistant", "tool"]
    assert (first.turns[1].content, first.turns[2].tool_calls[0].name) == ("Weather?", "weather")
    assert (first.turns[3].tool_call_id, first.tools, second.tools) == ("c1", (TOOL,), ())


@pytest.mark.parametrize(
    "how", [{}, {"continue_final_message": True, "add_generation_prompt": False}, {"add_generation_prompt": False}]
)
async def test_an_assistant_s_last_turn_is_continued(how: dict[str, JsonValue]) -> None:
    backend = Prompts(" is 42.")
    turns: JsonValue = [{"role": "user", "content": "6 * 7?"}, {"role": "assistant", "content": "The answer"}]
    async with serving(backend) as served:
        plain = (await served.ask(messages=turns, **how)).json()
        voted = (await served.ask(messages=turns, branchwise={"paths": 2}, **how)).json()
    assert [prompt.prefix for prompt in backend.asked] == ["The answer", "The answer"]
    assert plain["choices"][0]["message"]["content"] == voted["choices"][0]["message"]["content"] == " is 42."
    assert voted["branchwise"]["answer"] == "42"


async def test_a_last_turn_is_not_continued_where_the_request_says_so() -> None:
    backend = Prompts("42")
    turns: JsonValue = [{"role": "user", "content": "6 * 7?"}, {"role": "assistant", "content": "Well"}]
    async with serving(backend) as served:
        await served.ask(messages=turns, continue_final_message=False)
    assert (backend.asked[0].prefix, len(backend.asked[0].turns)) == ("", 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_are_told_with_their_tokens(stream: bool) -> None:
    async with serving(scripted(Reply(RIGHT, -0.25))) as served:
        response = await served.ask(logprobs=True, stop=" The", stream=stream)
        more = await served.ask(logprobs=True, top_logprobs=1, return_tokens_as_token_ids=True)
    choice = events(response.text)[-1]["choices"][0] if stream else response.json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == "Six times seven is 42."
    assert bytes(tokens[0]["bytes"]) == tokens[0]["token"].encode()
    assert {token["logprob"] for token in tokens} == {-0.25}
    (top,) = more.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert top["token"].startswith("token_id:")


REFUSED: list[tuple[dict[str, JsonValue], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"),
    ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_completion_tokens"),
    ({"n": 0}, "n"),
    ({"n": 65}, "n"),
    ({"n": 2, "branchwise": {}}, "n"),
    ({"stop": [""]}, "stop"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "required", "tools": [TOOL]}, "tool_choice"),  # of a plain sample
    ({"tool_choice": "required", "branchwise": {}}, "tool_choice"),
    ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice"),
    ({"tool_choice": {"type": "function"}, "tools": [TOOL], "branchwise": {}}, "tool_choice"),
    ({"tool_choice": chosen("tides"), "tools": [TOOL], "branchwise": {}}, "tool_choice"),
    ({"tools": [{"type": "retrieval"}]}, "tools.0"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
    ({"chat_template_kwargs": {"tone": "nice"}}, "chat_template_kwargs.tone"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    ({"branchwise": {"path": 3}}, "branchwise.path"),
    ({"branchwise": {"paths": 0}}, "branchwise.paths"),
    ({"branchwise": {"paths": 65}}, "branchwise.paths"),
    ({"branchwise": {"strategy": "path-consistancy"}}, "branchwise.strategy"),
    ({"branchwise": {"strategy": "path-consistency:paths=500"}}, "branchwise.strategy"),
    ({"branchwise": {"strategy": "greedy"}, "model": "scripted@esc"}, "branchwise.strategy"),
    ({"branchwise": {"strategy": "best-of-n:value=verifier"}}, "branchwise.strategy"),
    ({"branchwise": {"task": "maths"}}, "branchwise.task"),
    ({"branchwise": {"answers": "maths"}}, "branchwise.answers"),
    ({"branchwise": {"answers": "math", "task": "math"}}, "branchwise.answers"),
    ({"branchwise": {"budget": {"tokens": 0}}}, "branchwise.budget.tokens"),
    ({"branchwise": {"budget": {"tokens": 1_000_000}}}, "branchwise.budget.tokens"),
    ({"branchwise": {"budget": {"seconds": 1e6}}}, "branchwise.budget.seconds"),
    ({"branchwise": {"thinking_budget": 0}}, "branchwise.thinking_budget"),
    ({"branchwise": {}, "temperature": 0}, "temperature"),
    ({"max_tokens": 100_000}, "max_tokens"),
    ({"n": 60, "max_tokens": 2000}, "n"),
]


async def test_what_makes_no_sense_is_refused_by_name() -> None:
    async with serving(scripted(RIGHT)) as served:
        for body, field in REFUSED:
            for stream in (False, True):
                response = await served.ask(**body, stream=stream)
                error = response.json()["error"]
                assert (response.status_code, error["param"]) == (422, field), (body, error)
                assert error["type"] == "invalid_request_error"
                assert error["message"].startswith(field)
        with pytest.raises(openai.UnprocessableEntityError, match=r"branchwise\.paths"):
            await served.client.chat.completions.create(
                model="scripted", messages=[], extra_body={"branchwise": {"paths": "many"}}
            )


async def test_keys_that_change_nothing_are_taken() -> None:
    nothing: dict[str, JsonValue] = {
        "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "response_format": {"type": "text"},
        "user": "u", "metadata": {"a": "b"}, "store": False, "stop": None, "tools": [], "max_tokens": None,
        "parallel_tool_calls": True, "tool_choice": "auto", "stream_options": None, "top_k": -1,
    }  # fmt: skip
    async with serving(scripted(RIGHT)) as served:
        assert (await served.ask(**nothing)).json()["choices"][0]["message"]["content"] == RIGHT


async def test_the_models_are_the_served_one_and_its_strategies() -> None:
    async with serving(scripted(RIGHT)) as served:
        names = [model.id async for model in served.client.models.list()]
        assert {"scripted", "scripted@path-consistency", "scripted@mcts"} <= set(names)
        for name in names:
            response = await served.ask(model=name)
            assert response.status_code == 200, (name, response.text)
        assert (await served.client.models.retrieve("scripted@esc")).owned_by == "branchwise"
        with pytest.raises(openai.NotFoundError):
            await served.client.models.retrieve("gpt-7")
        with pytest.raises(openai.NotFoundError, match="gpt-7"):
            await served.client.chat.completions.create(model="gpt-7", messages=[{"role": "user", "content": "q"}])


async def test_a_prompt_too_long_for_the_model_is_the_client_s_fault() -> None:
    async with serving(scripted(RIGHT, able=replace(FULL, context=8))) as served:
        for stream in (False, True):
            turns: JsonValue = [{"role": "user", "content": "word " * 20}]
            response = await served.ask(messages=turns, stream=stream)
            assert (response.status_code, response.json()["error"]["param"]) == (422, "messages")


@pytest.mark.parametrize(("retryable", "status"), [(True, 503), (False, 500)])
async def test_a_model_that_fails_is_the_server_s_fault(retryable: bool, status: int) -> None:
    broken = Reply(RIGHT, fail_after=0, retryable=retryable)
    async with serving(scripted(broken)) as served:
        for key in (None, {"paths": 3}):
            response = await served.ask(branchwise=key)
            assert (response.status_code, response.json()["error"]["type"]) == (status, "server_error")
            assert "the script says so" in response.json()["error"]["message"]


async def test_a_failure_in_a_stream_is_told_in_it() -> None:
    async with serving(scripted(Reply(RIGHT, fail_after=5, delay=0.01))) as served:
        response = await served.ask(stream=True)
        assert events(response.text)[-1]["error"]["type"] == "server_error"
        stream = await served.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "q"}], stream=True
        )
        with pytest.raises(openai.APIError, match="the script says so"):
            async for _ in stream:
                pass


async def test_paths_that_finish_are_kept_where_others_fail() -> None:
    broken = Reply(RIGHT, fail_after=3)
    async with serving(scripted(broken, RIGHT, WRONG)) as served:
        plain = (await served.ask(n=3)).json()
        voted = (await served.ask(branchwise={"strategy": "self-consistency", "paths": 3})).json()
    assert [choice["index"] for choice in plain["choices"]] == [1, 2]
    assert [choice["message"]["content"] for choice in plain["choices"]] == [RIGHT, WRONG]
    assert "the script says so" in plain["branchwise"]["errors"][0]
    assert voted["branchwise"]["answer"] == "42"
    assert voted["branchwise"]["usage"]["discarded"] == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, {"strategy": "greedy"}])
async def test_time_that_runs_out_leaves_the_text_so_far(key: JsonValue, stream: bool) -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.1)), Limits(seconds=0.35)) as served:
        response = await served.ask(branchwise=key, stream=stream)
    if stream:
        told = events(response.text)
        text = "".join(choice["delta"].get("content", "") for chunk in told for choice in chunk["choices"])
        reason, details = told[-1]["choices"][0]["finish_reason"], told[-1]["branchwise"]
    else:
        body = response.json()
        text, details = body["choices"][0]["message"]["content"], body["branchwise"]
        reason = body["choices"][0]["finish_reason"]
    assert RIGHT.startswith(text)
    assert 3 <= len(text) < len(RIGHT)
    assert (reason, details["outcome"]) == ("length", "seconds_spent")
    assert details["usage"]["sampled"] == details["usage"]["discarded"] > 0


async def test_a_token_budget_holds() -> None:
    key: JsonValue = {"strategy": "self-consistency", "paths": 8, "budget": {"tokens": 30}}
    async with serving(scripted(RIGHT)) as served:
        told = (await served.ask(branchwise=key, max_tokens=12)).json()["branchwise"]
    assert told["outcome"] == "tokens_spent"
    assert told["answer"] == "42"
    assert told["usage"]["sampled"] <= 30


async def test_a_question_of_its_own_gets_its_whole_result() -> None:
    async with serving(scripted(RIGHT, WRONG, RIGHT)) as served:
        body: dict[str, JsonValue] = {"question": "6 * 7?", "strategy": "self-consistency", "paths": 3, "seed": 1}
        told = (await served.http.post(QUESTION, json=body)).json()
        stream = await served.http.post(QUESTION, json={**body, "stream": True})
    assert (told["object"], told["model"], told["answer"]) == ("branchwise", "scripted", "42")
    assert told["message"] == {"role": "assistant", "content": RIGHT}
    assert [path["text"] for path in told["paths"]] == [RIGHT, WRONG, RIGHT]
    assert told["votes"] == {"42": 2.0, "41": 1.0}
    assert balances(told["usage"])
    assert events(stream.text)[-1]["branchwise"]["answer"] == "42"


@pytest.mark.parametrize(
    ("status", "field", "body"),
    [
        (422, "paths", {"question": "q", "paths": 1000}),
        (422, "budget.tokens", {"question": "q", "budget": {"tokens": 10**9}}),
        (422, "question", {"paths": 2}),
        (422, "question", {"question": "q", "messages": [{"role": "user", "content": "q"}]}),
        (422, "question", {"question": 7}),
        (422, "branchwise", {"question": "q", "branchwise": {}}),
        (422, "body", ["q"]),
        (404, "model", {"question": "q", "model": "another"}),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_by_name(status: int, field: str, body: JsonValue) -> None:
    async with serving(scripted(RIGHT)) as served:
        response = await served.http.post(QUESTION, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, field)


async def test_a_verifier_is_asked_where_there_is_one() -> None:
    def verifier(path: bw.Path) -> float:
        return float("41" in path.answer_text)

    async with serving(scripted(RIGHT, RIGHT, WRONG), verifier=verifier) as served:
        key: JsonValue = {"strategy": "best-of-n:value=verifier", "paths": 3}
        assert (await served.ask(branchwise=key)).json()["branchwise"]["answer"] == "41"


TEXT = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)


@pytest.mark.parametrize(
    "able",
    [
        TEXT,
        replace(FULL, logprobs=False, top_k_logprobs=0),
        replace(FULL, prefix_reuse=0),
        replace(FULL, per_branch_cancel=False),
        replace(FULL, keyed=False, score=False),
    ],
)
async def test_a_backend_that_can_do_less_is_served_too(able: bw.Capabilities) -> None:
    async with serving(scripted(RIGHT, WRONG, RIGHT, able=able)) as served:
        assert (await served.ask()).json()["choices"][0]["message"]["content"] == RIGHT
        told = events((await served.ask(stream=True)).text)
        assert "".join(choice["delta"].get("content", "") for chunk in told for choice in chunk["choices"]) == WRONG
        for strategy in ("path-consistency", "best-of-n", "beam"):
            body = (await served.ask(branchwise={"strategy": strategy})).json()
            assert body["branchwise"]["answer"] in ("41", "42"), strategy
            assert balances(body["branchwise"]["usage"])
            if not able.token_out or not able.keyed or not able.prefix_reuse:
                assert body["branchwise"]["degraded"]
        refused = await served.ask(logprobs=True)
        assert refused.status_code == (200 if able.logprobs and able.token_out else 422)


async def test_64_questions_at_once_are_answered_apart() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        assert path.root.messages is not None
        number = path.root.messages.turns[-1].content
        return Reply(f"I was told {number}. The answer is {number}.", delay=0.002)

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
            response = await served.ask(messages=turns, branchwise=key, stream=stream)
            told = events(response.text)[-1] if stream else response.json()
            return f"{number}", told["branchwise"]["answer"]

        answers = await asyncio.gather(*map(ask, range(64)))
        over.set()
        await watching
    assert all(asked_for == answered for asked_for, answered in answers)
    assert most == 6
    assert not backend.running


async def test_seeds_decide_what_is_drawn(tiny_engine: Engine) -> None:
    async with serving(tiny_engine) as served:

        async def text(**more: JsonValue) -> tuple[str, int]:
            body = (await served.ask(model="tiny", max_tokens=12, **more)).json()
            return body["choices"][0]["message"]["content"], body["branchwise"]["seed"]

        first, seed = await text()
        again, other = await text()
        assert (first != again, seed != other) == (True, True)
        assert await text(seed=seed) == (first, seed)
        key: JsonValue = {"strategy": "self-consistency", "paths": 3, "seed": 5, "details": True}
        paths = [(await served.ask(model="tiny", max_tokens=12, branchwise=key)).json() for _ in range(2)]
        assert paths[0]["branchwise"]["paths"] == paths[1]["branchwise"]["paths"]


async def test_a_stream_and_a_reply_say_the_same(tiny_engine: Engine) -> None:
    several: list[JsonValue] = [{"strategy": name, "paths": 4} for name in ("path-consistency", "beam")]
    for key in [None, {"strategy": "greedy"}, *several]:
        async with serving(tiny_engine) as served:
            body = asked(model="tiny", max_tokens=16, seed=1, branchwise=key)
            whole = (await served.http.post(CHAT, json=body)).json()
            told = events((await served.http.post(CHAT, json={**body, "stream": True})).text)
        text = "".join(choice["delta"].get("content", "") for chunk in told for choice in chunk["choices"])
        assert text == whole["choices"][0]["message"]["content"]
        for name in ("answer", "votes", "outcome", "seed", "strategy"):
            assert told[-1]["branchwise"].get(name) == whole["branchwise"].get(name)
