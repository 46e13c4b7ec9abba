"""Pydantic AI itself, over strategies: agents with tools, structured output, streams and fallbacks."""

import asyncio
from typing import Literal

import pytest
from pydantic_ai import Agent, ImageUrl, ModelRetry, RunContext
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.settings import ModelSettings, ToolOrOutput
from pydantic_ai.tools import ToolDefinition

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.backends.scripted.backend import Reply
from branchwise.integrations.pydantic_ai import BranchwiseModel
from tests.support.pydantic_ai_models import ANSWERS, add, model
from tests.support.talks import Talk, a_loop_of_its_own, call

SUM = call("add", '{"a": 19, "b": 23}')
VOTES = [
    call("add", '{"a": 1, "b": 2}'),
    '{"name": "add", "parameters": {"b": 23.0, "a": 19}}',
    call("now", "{}"),
    f"I add them. {SUM}",
    "It is clear.",
]
"""Two of five agree on a call, however they write it."""


def now() -> str:
    """Return the time."""
    return "noon"


def last(run: object) -> ModelResponse:
    """The last response of a run."""
    response = run.response  # type: ignore[attr-defined]
    assert isinstance(response, ModelResponse)
    return response


# Answers


async def test_an_answer_comes_with_its_votes_and_its_ledger() -> None:
    asked = model(Talk(ANSWERS))
    run = await Agent(asked, instructions="Be brief.").run("6 times 7?")
    assert run.output == "So the answer is 42."
    said = last(run)
    assert said.provider_details is not None
    told = said.provider_details["branchwise"]
    assert (told["answer"], told["votes"], told["outcome"]) == ("42", {"42": 3.0, "41": 1.0}, "complete")
    spent = bw.Usage.model_validate(told["usage"])
    assert spent.sampled == 5 + 6 + 2 + 5 + 5
    assert (said.usage.input_tokens, said.usage.output_tokens) == (spent.prompt, spent.sampled)
    assert said.usage.cache_read_tokens == spent.reused > 0
    assert said.usage.details["prefilled"] == spent.prefilled
    assert (said.model_name, said.provider_name, said.finish_reason) == ("scripted", "branchwise", "stop")
    assert (asked.model_name, asked.system) == ("scripted", "branchwise")


def test_it_works_unawaited() -> None:
    with a_loop_of_its_own():
        assert Agent(model(Talk(ANSWERS))).run_sync("6 times 7?").output == "So the answer is 42."


async def test_prompts_are_turns() -> None:
    backend = Talk(ANSWERS)
    agent = Agent(model(backend), system_prompt="You count.", instructions="Be brief.")
    first = await agent.run("6 times 7?")
    await agent.run("Sure?", message_history=first.all_messages())
    assert [[(turn.role, turn.content) for turn in prompt.turns] for prompt in backend.prompts] == [
        [("system", "You count."), ("system", "Be brief."), ("user", "6 times 7?")],
        [
            ("system", "You count."),
            ("system", "Be brief."),
            ("user", "6 times 7?"),
            ("assistant", "So the answer is 42."),
            ("user", "Sure?"),
        ],
    ]


async def test_thoughts_are_parts_of_their_own_and_not_told_again() -> None:
    backend = Talk(["<think>41? No.</think>\n\nThe answer is 42. "])
    agent = Agent(model(backend, strategy="greedy"))
    run = await agent.run("q")
    assert last(run).parts == [ThinkingPart("41? No."), TextPart("The answer is 42.")]
    await agent.run("Sure?", message_history=run.all_messages())
    assert backend.prompts[1].turns[1].content == "The answer is 42."


# Tools


async def test_an_agent_with_a_tool_runs_to_the_end_by_majority() -> None:
    backend = Talk(VOTES, ANSWERS)
    run = await Agent(model(backend), tools=[add, now]).run("What is 19 and 23?")
    assert run.output == "So the answer is 42."
    calls = [part for message in run.all_messages() for part in message.parts if isinstance(part, ToolCallPart)]
    assert [(part.tool_name, part.args_as_dict()) for part in calls] == [("add", {"a": 19, "b": 23})]
    user, called, heard = backend.prompts[1].turns
    assert (user.role, called.role, heard.role) == ("user", "assistant", "tool")
    assert called.tool_calls[0].name == "add"
    assert (heard.content, heard.tool_call_id, heard.name) == ("42", called.tool_calls[0].id, "add")
    offered = [tool["function"] for tool in backend.prompts[0].tools]
    assert [each["name"] for each in offered if isinstance(each, dict)] == ["add", "now"]
    assert run.usage.requests == 2


async def test_a_tool_that_asks_again_is_heard() -> None:
    def check(word: str) -> str:
        """Check a word."""
        if word != "right":
            raise ModelRetry("Another word.")
        return "good"

    backend = Talk([call("check", '{"word": "wrong"}')], [call("check", '{"word": "right"}')], ["The answer is 1."])
    run = await Agent(model(backend), tools=[check]).run("q")
    assert run.output == "The answer is 1."
    heard = [turn.content for turn in backend.prompts[2].turns if turn.role == "tool"]
    assert "Another word." in heard[0]
    assert heard[1] == "good"


async def test_dependencies_reach_tools() -> None:
    agent = Agent(model(Talk([call("double", "{}")], ANSWERS)), deps_type=int)

    @agent.tool
    def double(context: RunContext[int]) -> int:
        """Double it."""
        return context.deps * 2

    run = await agent.run("q", deps=21)
    assert "42" in str(run.all_messages()[2])


@pytest.mark.parametrize(
    ("choice", "offered", "called"),
    [
        ("required", ["add", "now"], ["now"]),
        (["now"], ["now"], ["now"]),
        (ToolOrOutput(["now"]), ["now"], []),
        ("none", [], []),
        (None, ["add", "now"], []),
    ],
)
async def test_the_choice_of_tools(
    choice: Literal["required", "none"] | list[str] | ToolOrOutput | None, offered: list[str], called: list[str]
) -> None:
    backend = Talk([call("now", "{}"), "The answer is 42.", "The answer is 42."])
    tools = [ToolDefinition(name="add"), ToolDefinition(name="now")]
    said = await model_request(
        model(backend, paths=3),
        [ModelRequest.user_text_prompt("q", instructions="Be brief.")],
        model_settings=ModelSettings(tool_choice=choice),
        model_request_parameters=ModelRequestParameters(function_tools=tools),
    )
    assert [part.tool_name for part in said.parts if isinstance(part, ToolCallPart)] == called
    names = [tool["function"] for tool in backend.prompts[0].tools]
    assert [each["name"] for each in names if isinstance(each, dict)] == offered
    assert backend.prompts[0].turns[0].content == "Be brief."


# Settings


async def test_settings_of_a_run_go_before_the_model_s() -> None:
    backend = Talk(ANSWERS)
    agent = Agent(model(backend, ModelSettings(max_tokens=50), temperature=0.4))
    await agent.run("q")
    settings = ModelSettings(temperature=0.9, top_p=0.8, top_k=7, max_tokens=9, stop_sequences=["END"])
    await agent.run("q", model_settings=settings)
    first, second = (request.sampling for request in backend.requests)
    assert first == bw.Sampling(0.4, max_tokens=50)
    assert second == bw.Sampling(0.9, 0.8, 7, max_tokens=9, stop=("END",))


async def test_seeds_and_repeats_name_the_samples() -> None:
    backend = Talk(ANSWERS)
    agent = Agent(model(backend))
    for settings in (None, None, ModelSettings(seed=9), ModelSettings(seed=9)):
        await agent.run("q", model_settings=settings)
    once, again, seeded, same = (request.keys for request in backend.requests)
    assert len({once, again, seeded}) == 3
    assert same == seeded


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ModelSettings(frequency_penalty=1.0), "frequency_penalty: is not supported"),
        (ModelSettings(logit_bias={"7": 1}), "logit_bias: is not supported"),
        (ModelSettings(temperature=0.0), "temperature: is 0"),
    ],
)
async def test_settings_that_cannot_be_honoured(settings: ModelSettings, message: str) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        await Agent(model(Talk(ANSWERS))).run("q", model_settings=settings)


async def test_what_the_model_cannot_read_is_refused() -> None:
    with pytest.raises(bw.ConfigError, match="messages: contain a ImageUrl"):
        await Agent(model(Talk(ANSWERS))).run(["What is this?", ImageUrl("https://example.com/a.png")])


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(bw.ConfigError, match=r"pths: is not an argument; did you mean paths\?"):
        model(Talk(ANSWERS), pths=3)
    with pytest.raises(bw.ConfigError, match="model: is missing"):
        BranchwiseModel()


# Streams, cancellation, failures


async def test_one_path_comes_token_by_token() -> None:
    async with Agent(model(Talk(["So the answer is 42."]), paths=1)).run_stream("q") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
        assert pieces == ["So", " the", " answer", " is", " 42", "."]
        assert stream.usage.output_tokens == 6


async def test_several_paths_speak_after_their_vote() -> None:
    async with Agent(model(Talk(ANSWERS))).run_stream("q") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert pieces == ["So the answer is 42."]


async def test_a_stream_calls_tools_by_majority() -> None:
    agent = Agent(model(Talk(VOTES, ANSWERS)), tools=[add, now])
    async with agent.run_stream("What is 19 and 23?") as stream:
        assert await stream.get_output() == "So the answer is 42."
        calls = [part for message in stream.all_messages() for part in message.parts if isinstance(part, ToolCallPart)]
    assert [part.args_as_dict() for part in calls] == [{"a": 19, "b": 23}]


async def test_thoughts_are_streamed_as_thoughts() -> None:
    backend = Talk(["<think>41? No.</think>\n\nThe answer is 42."])
    async with Agent(model(backend, strategy="greedy")).run_stream("q") as stream:
        assert await stream.get_output() == "The answer is 42."
        response = stream.response
    assert response.parts == [ThinkingPart("41? No."), TextPart("The answer is 42.")]


async def test_leaving_a_stream_stops_its_branch() -> None:
    backend = Talk([Reply("one two three four five six", delay=0.05)])
    async with Agent(model(backend, paths=1)).run_stream("q") as stream:
        async for piece in stream.stream_text(delta=True, debounce_by=None):
            assert piece == "one"
            break
        assert backend.running
        await stream.cancel()
    assert await backend.idle()


async def test_cancelling_stops_every_branch() -> None:
    backend = Talk([Reply("one two three four five six", delay=0.05)])
    task = asyncio.create_task(Agent(model(backend)).run("q"))
    await backend.speaking(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await backend.idle()


async def test_a_model_that_fails_gives_way_to_another() -> None:
    broken = model(Talk([Reply("It is", fail_after=1)]))
    with pytest.raises(ModelAPIError, match="the script says so"):
        await Agent(broken).run("q")
    assert (await Agent(FallbackModel(broken, model(Talk(ANSWERS)))).run("q")).output == "So the answer is 42."


# The engine


async def test_the_engine_answers(tiny_engine: Engine) -> None:
    agent = Agent(model(tiny_engine, ModelSettings(seed=1), paths=3, max_tokens=8, temperature=1.0))
    once, again = [await agent.run("What is 6 times 7?") for _ in range(2)]
    assert once.output == again.output
    assert 8 < last(once).usage.output_tokens <= 24
    assert last(once).usage.cache_read_tokens > 0
    with pytest.raises(bw.ConfigError, match="tools: this model's chat template takes none"):
        await Agent(model(tiny_engine), tools=[add]).run("q")


async def test_a_model_is_loaded_by_name(tiny_model_folder: object) -> None:
    asked = BranchwiseModel(str(tiny_model_folder), strategy="greedy", max_tokens=4, device="cpu", speculation="off")
    assert last(await Agent(asked).run("q")).usage.output_tokens <= 4
    await asked.aclose()
    with pytest.raises(ModelAPIError, match="closed"):
        await Agent(asked).run("q")
