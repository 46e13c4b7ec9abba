"""LangChain itself, over strategies: tools, structured output, streams, callbacks and cancellation."""

import asyncio
import json
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.backends.scripted.backend import Reply
from branchwise.integrations.langchain import ChatBranchwise
from tests.support.talks import Talk, call


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def now() -> str:
    """Return the time."""
    return "noon"


SUM = call("add", '{"a": 19, "b": 23}')
VOTES = [
    call("add", '{"a": 1, "b": 2}'),
    '{"name": "add", "parameters": {"b": 23.0, "a": 19}}',
    call("now", "{}"),
    f"I add them. {SUM}",
    "It is clear.",
]
"""Two of five agree on a call, however they write it."""
SINGLE, NOW = '[{"name": "add", "arguments": {"a": 1, "b": 2}}]', '[{"name": "now", "arguments": {}}]'
ANSWERS = ["The answer is 41.", "So the answer is 42.", "Hm.", "The answer is 42.", "The answer is 42."]


def model(backend: bw.Backend, **given: object) -> ChatBranchwise:
    named = {} if "task" in given else {"answers": "math"}  # with a named format, all paths are one request
    fields: dict[str, Any] = {"strategy": "self-consistency", "paths": 5, **named, **given}
    return ChatBranchwise(backend=backend, **fields)


# Answers


def test_a_reply_without_an_answer_costs_one_path() -> None:
    guessed, named = Talk(["A rose is red."]), Talk(["A rose is red."])
    said = ChatBranchwise(backend=guessed, strategy="self-consistency", paths=5).invoke("Write a poem.")
    assert said.content == model(named).invoke("Write a poem.").content == "A rose is red."
    assert [sum(len(request.keys) for request in talk.requests) for talk in (guessed, named)] == [1, 5]


def test_an_answer_comes_with_its_votes_and_its_ledger() -> None:
    said = model(Talk(ANSWERS)).invoke("6 times 7?")
    assert said.content == "So the answer is 42."
    told = said.response_metadata["branchwise"]
    assert (told["answer"], told["votes"], told["outcome"]) == ("42", {"42": 3.0, "41": 1.0}, "complete")
    assert 0.5 < told["confidence"] < 1
    assert said.response_metadata["model_name"] == "scripted"
    assert said.response_metadata["finish_reason"] == "stop"
    spent = bw.Usage.model_validate(told["usage"])
    assert spent.sampled == 5 + 6 + 2 + 5 + 5
    assert said.usage_metadata == {
        "input_tokens": spent.prompt,
        "output_tokens": spent.sampled,
        "total_tokens": spent.prompt + spent.sampled,
        "input_token_details": {"cache_read": spent.reused},
    }
    assert 0 < spent.reused < spent.prompt


async def test_awaited_it_says_the_same() -> None:
    said = await model(Talk(ANSWERS)).ainvoke("6 times 7?")
    assert (said.content, said.response_metadata["branchwise"]["answer"]) == ("So the answer is 42.", "42")
    both = await model(Talk(ANSWERS)).abatch(["6 times 7?", "7 times 6?"])
    assert [each.content for each in both] == ["So the answer is 42."] * 2


async def test_it_works_within_a_running_loop_unawaited() -> None:
    assert model(Talk(ANSWERS)).invoke("6 times 7?").content == "So the answer is 42."


def test_it_is_a_link_of_a_chain() -> None:
    backend = Talk(ANSWERS)
    chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{q}")]) | model(backend)
    assert chain.invoke({"q": "6 times 7?"}).content == "So the answer is 42."
    assert [(turn.role, turn.content) for turn in backend.prompts[0].turns] == [
        ("system", "Be brief."),
        ("user", "6 times 7?"),
    ]


def test_thoughts_are_reasoning() -> None:
    said = model(Talk(["<think>41? No.</think>\n\nThe answer is 42. "]), strategy="greedy").invoke("q")
    assert said.content == "The answer is 42."
    assert [block["type"] for block in said.content_blocks] == ["reasoning", "text"]
    assert said.additional_kwargs["reasoning_content"] == "41? No."


def test_an_assistant_turn_at_the_end_is_how_the_answer_begins() -> None:
    backend = Talk([" 42, the answer is 42."])
    said = model(backend, strategy="greedy").invoke([HumanMessage("q"), AIMessage("It is")])
    assert (said.content, backend.prompts[0].prefix) == (" 42, the answer is 42.", "It is")


# Tools


def test_most_paths_decide_what_is_called() -> None:
    backend = Talk(VOTES)
    said = model(backend).bind_tools([add, now]).invoke("What is 19 and 23?")
    assert said.content == ""  # the first path that makes the call says nothing else
    (made,) = said.tool_calls
    assert (made["name"], made["args"]) == ("add", {"a": 19, "b": 23})
    assert said.response_metadata["finish_reason"] == "tool_calls"
    told = said.response_metadata["branchwise"]
    assert told["answer"] == '[{"name": "add", "arguments": {"a": 19, "b": 23}}]'
    assert told["votes"] == {told["answer"]: 2.0, SINGLE: 1.0, NOW: 1.0, "(prose)": 1.0}
    offered = backend.prompts[0].tools
    assert [dict(each)["function"]["name"] for each in offered] == ["add", "now"]  # type: ignore[call-overload,index]


def test_most_paths_may_rather_say_something() -> None:
    said = model(Talk(["It is 42.", SUM, "It may be so.", SUM, "42, as I said."])).bind_tools([add]).invoke("q")
    assert (said.content, said.tool_calls) == ("It is 42.", [])
    assert said.response_metadata["branchwise"]["votes"]["(prose)"] == 3.0


def test_an_agent_goes_on_to_the_end() -> None:
    """The loop that frameworks run: call a tool, report its result, ask again."""
    backend = Talk(VOTES, ANSWERS)
    agent = model(backend).bind_tools([add, now])
    chat: list[BaseMessage] = [SystemMessage("Use tools."), HumanMessage("What is 19 and 23?")]
    tools = {"add": add, "now": now}
    for _ in range(3):
        said = agent.invoke(chat)
        chat.append(said)
        if not said.tool_calls:
            break
        chat.extend(tools[made["name"]].invoke(made) for made in said.tool_calls)
    assert said.content == "So the answer is 42."
    assert [type(turn) for turn in chat[2:]] == [AIMessage, ToolMessage, AIMessage]
    system, user, called, heard = backend.prompts[1].turns
    assert (system.role, user.role, called.role, heard.role) == ("system", "user", "assistant", "tool")
    (made,) = called.tool_calls
    assert (made.name, json.loads(made.arguments)) == ("add", {"a": 19, "b": 23})
    assert (heard.content, heard.tool_call_id, heard.name) == ("42", made.id, "add")


def test_calls_of_one_message_are_made_together() -> None:
    said = model(Talk([SUM + call("now", "{}")]), paths=1).bind_tools([add, now]).invoke("q")
    assert [made["name"] for made in said.tool_calls] == ["add", "now"]
    assert len({made["id"] for made in said.tool_calls}) == 2


def test_the_same_call_in_another_turn_has_another_id() -> None:
    agent = model(Talk([SUM]), paths=1).bind_tools([add])
    first = agent.invoke("What is 19 and 23?")
    chat = [HumanMessage("What is 19 and 23?"), first, add.invoke(first.tool_calls[0])]
    assert agent.invoke(chat).tool_calls[0]["id"] != first.tool_calls[0]["id"]


@pytest.mark.parametrize("choice", ["any", "required", "add", True, {"type": "function", "function": {"name": "add"}}])
def test_where_a_tool_must_be_called_only_calls_have_a_vote(choice: str | bool | dict[str, object]) -> None:
    backend = Talk(["The answer is 42.", "The answer is 42.", "The answer is 42.", SUM, "The answer is 42."])
    said = model(backend).bind_tools([add, now], tool_choice=choice).invoke("q")
    assert [made["name"] for made in said.tool_calls] == ["add"]
    assert len(backend.prompts[0].tools) == (2 if choice in ("any", "required", True) else 1)


def test_no_tool_is_called_where_none_may_be() -> None:
    backend = Talk([SUM])
    said = model(backend).bind_tools([add], tool_choice="none").invoke("q")
    assert (said.tool_calls, said.content, backend.prompts[0].tools) == ([], SUM, ())


def test_a_choice_of_no_tool_is_refused() -> None:
    with pytest.raises(bw.ConfigError, match="tool_choice: is 'ad'; use one of auto, none, any, add"):
        model(Talk([SUM])).bind_tools([add], tool_choice="ad").invoke("q")


def test_calls_without_results_are_refused() -> None:
    asked = AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "1"}])
    with pytest.raises(bw.ConfigError, match="messages: end with tool calls"):
        model(Talk([SUM])).invoke([HumanMessage("q"), asked])


# Options


def test_a_call_s_options_go_before_the_model_s() -> None:
    backend = Talk(ANSWERS)
    asked = model(backend, temperature=0.4, max_tokens=50)
    asked.invoke("q")
    asked.invoke("q", temperature=0.9, top_p=0.8, top_k=-1, min_p=0.1, max_tokens=9, stop=["END"])
    first, second = (request.sampling for request in backend.requests)
    assert first == bw.Sampling(0.4, max_tokens=50)
    assert second == bw.Sampling(0.9, 0.8, min_p=0.1, max_tokens=9, stop=("END",))


def test_seeds_and_repeats_name_the_samples() -> None:
    backend = Talk(ANSWERS)
    asked = model(backend, seed=3)
    settings: list[dict[str, Any]] = [{}, {}, {"seed": 9}, {"seed": 9}]
    for given in settings:
        asked.invoke("q", **given)
    model(backend, seed=3).invoke("q")
    once, again, seeded, same, fresh = (request.keys for request in backend.requests)
    assert len({once, again, seeded}) == 3
    assert (same, fresh) == (seeded, once)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frequency_penalty": 1.0}, "frequency_penalty: is not supported"),
        ({"logit_bias": {}}, "logit_bias: is not supported"),
        ({"n": 2}, "n: is not supported"),
        ({"top_p": "much"}, "top_p: is 'much'"),
        ({"top_p": 0.0}, "top_p: is 0.0"),
        ({"temperature": 0.0}, "temperature: is 0"),
    ],
)
def test_options_that_cannot_be_honoured(given: dict[str, Any], message: str) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        model(Talk(ANSWERS)).invoke("q", **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pths": 3}, "pths: is not an argument; did you mean paths?"),
        ({"paths": 0}, "paths: is 0"),
        ({"strategy": "beem"}, "did you mean beam?"),
    ],
)
def test_arguments_that_make_no_sense(given: dict[str, object], message: str) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        model(Talk(ANSWERS), **given)
    with pytest.raises(bw.ConfigError, match="model: is missing"):
        ChatBranchwise()


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}]), "messages: contain image_url"),
        (ChatMessage(content="q", role="critic"), "messages: contain one of type chat"),
        (HumanMessage(" "), "question: has no message with content"),
    ],
)
def test_what_the_model_cannot_read_is_refused(turn: BaseMessage, message: str) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        model(Talk(ANSWERS)).invoke([turn])


def test_parts_of_text_are_read() -> None:
    backend = Talk(ANSWERS)
    earlier = AIMessage([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Two."}])
    model(backend).invoke([HumanMessage(["What", {"type": "text", "text": "now?"}]), earlier, HumanMessage("And?")])
    assert [turn.content for turn in backend.prompts[0].turns] == ["What\nnow?", "Two.", "And?"]


def test_a_cache_tells_strategies_apart() -> None:
    asked = [model(Talk(ANSWERS), paths=paths) for paths in (2, 3)]
    first, second = (each._get_llm_string() for each in asked)
    assert first != second
    assert "self-consistency" in first


# Streams, callbacks, cancellation, failures


async def test_one_path_comes_token_by_token() -> None:
    chunks = [chunk async for chunk in model(Talk(["So the answer is 42."]), paths=1).astream("q")]
    assert [chunk.content for chunk in chunks if chunk.content] == ["So", " the", " answer", " is", " 42", "."]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    assert whole.content == "So the answer is 42."
    assert whole.response_metadata["branchwise"]["answer"] == "42"
    assert whole.usage_metadata
    assert whole.usage_metadata["output_tokens"] == 6


async def test_thoughts_are_not_streamed_as_text() -> None:
    asked = model(Talk(["<think>41? No.</think>\n\nThe answer is 42."]), strategy="greedy")
    chunks = [chunk async for chunk in asked.astream("q")]
    assert "".join(str(chunk.content) for chunk in chunks) == "The answer is 42."
    assert "".join(chunk.additional_kwargs.get("reasoning_content", "") for chunk in chunks) == "41? No."


async def test_several_paths_speak_after_their_vote() -> None:
    chunks = [chunk async for chunk in model(Talk(ANSWERS)).astream("q")]
    assert [chunk.content for chunk in chunks if chunk.content] == ["So the answer is 42."]


async def test_streamed_calls_are_whole() -> None:
    whole: AIMessageChunk | None = None
    async for chunk in model(Talk(VOTES)).bind_tools([add, now]).astream("q"):
        assert isinstance(chunk, AIMessageChunk)
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert [(made["name"], made["args"]) for made in whole.tool_calls] == [("add", {"a": 19, "b": 23})]


class Log(BaseCallbackHandler):
    """Collects what a callback receives."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.usage: list[object] = []
        self.errors: list[BaseException] = []

    def on_llm_new_token(self, token: object, **_: object) -> None:
        self.tokens.append(str(token))

    def on_llm_end(self, response: LLMResult, **_: object) -> None:
        self.usage.append(response.generations[0][0].message.usage_metadata)  # type: ignore[union-attr]

    def on_llm_error(self, error: BaseException, **_: object) -> None:
        self.errors.append(error)


async def test_callbacks_hear_tokens_ends_and_errors() -> None:
    log = Log()
    async for _ in model(Talk(["The answer is 42."]), paths=1).astream("q", config={"callbacks": [log]}):
        pass
    assert "".join(log.tokens) == "The answer is 42."
    said = await model(Talk(ANSWERS)).ainvoke("q", config={"callbacks": [log]})
    assert log.usage[-1] == said.usage_metadata
    with pytest.raises(bw.BackendError, match="the script says so"):
        await model(Talk([Reply("It is", fail_after=1)])).ainvoke("q", config={"callbacks": [log]})
    assert len(log.errors) == 1


def test_paths_that_failed_are_told_and_the_others_answer() -> None:
    said = model(Talk([Reply("It is so", fail_after=2), "The answer is 42."]), paths=2).invoke("q")
    assert said.content == "The answer is 42."
    assert said.response_metadata["branchwise"]["errors"] == ["the script says so; change the script"]


async def test_cancelling_stops_every_branch() -> None:
    backend = Talk([Reply("one two three four five six", delay=0.05)])
    task = asyncio.create_task(model(backend).ainvoke("q"))
    await backend.speaking(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await backend.idle()


async def test_leaving_a_stream_stops_its_branch() -> None:
    backend = Talk([Reply("one two three four five six", delay=0.05)])
    stream = model(backend, paths=1).astream("q")
    async for chunk in stream:
        assert chunk.content == "one"
        break
    assert backend.running
    await stream.aclose()  # type: ignore[attr-defined]
    assert await backend.idle()


async def test_a_spent_budget_is_told() -> None:
    said = await model(Talk(ANSWERS), budget_tokens=7).ainvoke("q")
    assert said.response_metadata["branchwise"]["outcome"] == "tokens_spent"
    assert said.usage_metadata
    assert said.usage_metadata["output_tokens"] <= 7


# The engine


async def test_the_engine_answers(tiny_engine: Engine) -> None:
    asked = model(tiny_engine, paths=3, max_tokens=8, temperature=1.0)
    once, again = [await asked.ainvoke("What is 6 times 7?", seed=1) for _ in range(2)]
    assert once.content == again.content
    assert once.usage_metadata
    assert 8 < once.usage_metadata["output_tokens"] <= 24
    assert once.response_metadata["branchwise"]["usage"]["reused"] > 0
    alone = model(tiny_engine, paths=1, max_tokens=8, temperature=1.0)
    text = "".join([str(chunk.content) async for chunk in alone.astream("What is 6 times 7?", seed=1)])
    assert text == (await alone.ainvoke("What is 6 times 7?", seed=1)).content
    with pytest.raises(bw.ConfigError, match="tools: this model's chat template takes none"):
        await asked.bind_tools([add]).ainvoke("q")


def test_a_model_is_loaded_by_name(tiny_model_folder: object) -> None:
    asked = ChatBranchwise(str(tiny_model_folder), strategy="greedy", max_tokens=4, device="cpu", speculation="off")
    said = asked.invoke("q")
    assert said.usage_metadata
    assert said.usage_metadata["output_tokens"] <= 4
    asyncio.run(asked.aclose())
    with pytest.raises(bw.BackendError, match="closed"):
        asked.invoke("q")
