"""Tool calls over HTTP: the vote on calls, `tool_choice`, and chats with tool results."""

import json
from typing import cast

import pytest
from openai.types.chat import ChatCompletionToolUnionParam
from pydantic import JsonValue

from tests.support.serving_lab import PARIS, ROME, TIDES, TOOL, PromptRecorder, events, scripted, serving, tool_choice


async def test_paths_vote_on_tool_calls() -> None:
    spaced = '<tool_call>{"arguments":{"city":"Paris"},"name":"weather"}</tool_call>'
    async with serving(scripted(ROME, PARIS, spaced)) as served:
        reply = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "What's the weather in Paris?"}],
            tools=[cast("ChatCompletionToolUnionParam", TOOL)],
            extra_body={"branchwise": {"strategy": "self-consistency", "paths": 3}},
        )
    message = reply.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    assert (reply.choices[0].finish_reason, message.content) == ("tool_calls", None)


@pytest.mark.parametrize("choice", ["required", tool_choice("weather")])
async def test_required_tool_choice_counts_calls_only(choice: JsonValue) -> None:
    backend = PromptRecorder("I'd rather talk.", "No.", PARIS, "No.", TIDES)
    tools: JsonValue = [TOOL, {**TOOL, "function": {"name": "tides"}}]
    async with serving(backend) as served:
        key: JsonValue = {"strategy": "self-consistency", "paths": 5}
        reply = (await served.chat(tools=tools, tool_choice=choice, branchwise=key)).json()
        stream = events((await served.chat(tools=tools, tool_choice=choice, branchwise=key, stream=True)).text)
    calls = reply["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather"]
    assert reply["choices"][0]["finish_reason"] == stream[-1]["choices"][0]["finish_reason"] == "tool_calls"
    offered = [TOOL] if choice != "required" else tools
    assert [list(messages.tools) for messages in backend.prompts] == [offered, offered]
    assert sum(reply["branchwise"]["votes"].values()) == (2 if choice == "required" else 1)


@pytest.mark.parametrize("key", [None, {"strategy": "self-consistency", "paths": 3}])
async def test_stream_sends_parsed_calls(key: JsonValue) -> None:
    async with serving(scripted(f"Let me look.\n{PARIS}")) as served:
        stream = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "What's the weather in Paris?"}],
            tools=[cast("ChatCompletionToolUnionParam", TOOL)],
            stream=True,
            extra_body={"branchwise": key},
        )
        deltas = [chunk.choices[0] async for chunk in stream if chunk.choices]
    assert "".join(each.delta.content or "" for each in deltas) == "Let me look."
    (call,) = [call for each in deltas for call in each.delta.tool_calls or ()]
    assert call.function is not None
    assert (call.index, call.function.name) == (0, "weather")
    assert deltas[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("key", [None, {"strategy": "self-consistency", "paths": 3}])
async def test_one_call_at_most_if_calls_are_not_parallel(key: JsonValue) -> None:
    async with serving(scripted(f"{PARIS}\n{ROME}")) as served:
        for parallel, cities in ((True, ["Paris", "Rome"]), (False, ["Paris"])):
            reply = (await served.chat(tools=[TOOL], parallel_tool_calls=parallel, branchwise=key)).json()
            calls = reply["choices"][0]["message"]["tool_calls"]
            assert [json.loads(call["function"]["arguments"])["city"] for call in calls] == cities


@pytest.mark.parametrize("key", [None, {"strategy": "self-consistency", "paths": 3}])
async def test_calls_of_strict_tools_fit_their_schema(key: JsonValue) -> None:
    schema: JsonValue = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    tool: JsonValue = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": schema}}
    async with serving(scripted(PARIS, PARIS, ROME)) as served:
        message = (await served.chat(tools=[tool], branchwise=key)).json()["choices"][0]["message"]
    if key is None:
        assert (message["content"], message.get("tool_calls")) == (PARIS, None)
    else:
        assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"city": "Rome"}']


async def test_calls_and_results_reach_the_prompt() -> None:
    call: JsonValue = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns: JsonValue = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ]
    backend = PromptRecorder("It is sunny.")
    async with serving(backend) as served:
        for tools in ("auto", "none"):
            response = await served.chat(messages=turns, tools=[TOOL], tool_choice=tools)
            assert response.json()["choices"][0]["message"]["content"] == "It is sunny."
    first, second = backend.prompts
    assert [turn.role for turn in first.turns] == ["system", "user", "assistant", "tool"]
    assert (first.turns[1].content, first.turns[2].tool_calls[0].name) == ("Weather?", "weather")
    assert (first.turns[3].tool_call_id, first.tools, second.tools) == ("c1", (TOOL,), ())
