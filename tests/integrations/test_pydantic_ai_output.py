"""Pydantic AI's structured output over strategies: output tools, native and prompted objects, and strict tools."""

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, Tool, ToolOutput, UnexpectedModelBehavior, UsageLimits
from pydantic_ai.exceptions import UsageLimitExceeded, UserError
from pydantic_ai.messages import ModelRequest, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings

from tests.support.pydantic_ai_models import ANSWERS, add, model
from tests.support.talks import Talk, call


def last(run: object) -> ModelResponse:
    """The last response of a run."""
    response = run.response  # type: ignore[attr-defined]
    assert isinstance(response, ModelResponse)
    return response


class Place(BaseModel):
    """A place."""

    city: str
    people: int


async def test_output_tools_are_voted_on() -> None:
    replies = ['{"city": "Rome", "people": 3}', '{"people": 2.0, "city": "Paris"}', '{"city": "Paris", "people": 2}']
    backend = Talk([*(call("final_result", each) for each in replies), "The answer is 42.", "The answer is 42."])
    run = await Agent(model(backend), output_type=Place).run("Which city?")
    assert run.output == Place(city="Paris", people=2)
    said = last(run).provider_details
    assert said is not None
    assert list(said["branchwise"]["votes"].values()) == [2.0, 1.0]  # texts have no vote where a call is due


async def test_an_output_that_does_not_fit_is_asked_for_again() -> None:
    whole = call("final_result", '{"city": "Paris", "people": 2}')
    backend = Talk([call("final_result", '{"city": "Paris"}')], [whole])
    run = await Agent(model(backend), output_type=Place).run("Which city?")
    assert run.output == Place(city="Paris", people=2)
    assert "people" in backend.prompts[1].turns[-1].content
    with pytest.raises(UnexpectedModelBehavior):
        await Agent(model(Talk(["Hm."])), output_type=Place).run("Which city?")


OBJECTS = ['{"city": "Paris", "people": 2}', 'So {"city": "Rome", "people": 3}', '{"city": "Paris", "people": 3}']


@pytest.mark.parametrize("output", [PromptedOutput(Place), NativeOutput(Place)])
async def test_objects_are_voted_field_by_field(output: PromptedOutput[Place] | NativeOutput[Place]) -> None:
    backend = Talk(OBJECTS)
    run = await Agent(model(backend, paths=3), output_type=output).run("Which city?")
    assert run.output == Place(city="Paris", people=3)
    assert not backend.prompts[0].tools
    assert '"people"' in backend.prompts[0].turns[0].content


@pytest.mark.parametrize("output", [PromptedOutput(Place), NativeOutput(Place)])
async def test_objects_that_do_not_fit_have_no_vote(output: PromptedOutput[Place] | NativeOutput[Place]) -> None:
    replies = ['{"city": "Rome"}', '{"city": "Rome", "people": "many"}', '{"city": "Rome"}', OBJECTS[0]]
    run = await Agent(model(Talk(replies), paths=4), output_type=output).run("Which city?")
    assert run.output == Place(city="Paris", people=2)
    again = Talk(replies[:1], replies[3:])
    with pytest.raises(UnexpectedModelBehavior):
        await Agent(model(again, paths=1), output_type=output).run("Which city?")


async def test_native_output_streams_the_object_voted_on() -> None:
    agent = Agent(model(Talk(OBJECTS[1:2]), strategy="greedy"), output_type=NativeOutput(Place))
    async with agent.run_stream("Which city?") as stream:
        assert await stream.get_output() == Place(city="Rome", people=3)


async def test_a_list_is_wrapped_in_an_object() -> None:
    replies = ['{"response": [1, 2]}', '{"response": [1, 2]}', '{"response": "none"}']
    assert (await Agent(model(Talk(replies), paths=3), output_type=NativeOutput(list[int])).run("q")).output == [1, 2]


async def test_output_tools_have_names_and_may_be_strict() -> None:
    replies = [call("place", each) for each in ('{"city": "Rome"}', '{"city": "Rome"}', OBJECTS[0])]
    backend = Talk(replies)
    with pytest.raises(UnexpectedModelBehavior):  # the majority's call does not fit
        await Agent(model(backend, paths=3), output_type=ToolOutput(Place, name="place"), retries=0).run("q")
    strict = ToolOutput(Place, name="place", strict=True)
    assert (await Agent(model(Talk(replies), paths=3), output_type=strict).run("q")).output == Place(
        city="Paris", people=2
    )


async def test_a_profile_may_turn_native_output_off() -> None:
    def without(default: ModelProfile) -> ModelProfile:
        assert default.get("supports_json_schema_output")
        return {**default, "supports_json_schema_output": False}

    for profile in (without, ModelProfile(supports_json_schema_output=False)):
        with pytest.raises(UserError, match="Native structured output is not supported"):
            await Agent(model(Talk(OBJECTS), profile=profile), output_type=NativeOutput(Place)).run("q")


async def test_prompted_objects_are_voted_whole_beside_tools() -> None:
    replies = [*ANSWERS[:1], 'So {"city": "Paris", "people": 2}', 'Or {"city": "Rome", "people": 3}']
    agent = Agent(model(Talk([*replies, replies[1]]), paths=4), output_type=PromptedOutput(Place), tools=[add])
    assert (await agent.run("Which city?")).output == Place(city="Paris", people=2)


# Calls and tokens


@pytest.mark.parametrize(("parallel", "results"), [(None, 2), (True, 2), (False, 1)])
async def test_parallel_tool_calls(parallel: bool | None, results: int) -> None:
    backend = Talk(["[add(a=1, b=2), add(a=3, b=4)]"], ANSWERS)
    settings = None if parallel is None else ModelSettings(parallel_tool_calls=parallel)
    await Agent(model(backend, settings, paths=2), tools=[add]).run("q")
    assert [turn.content for turn in backend.prompts[-1].turns if turn.role == "tool"] == ["3", "7"][:results]


@pytest.mark.parametrize("strict", [False, True])
async def test_strict_tools_are_called_with_fitting_arguments(strict: bool) -> None:
    replies = [call("add", '{"a": "x", "b": 2}'), call("add", '{"a": "x", "b": 2}'), call("add", '{"a": 1, "b": 2}')]
    backend = Talk(replies, ANSWERS)
    await Agent(model(backend, paths=3), tools=[Tool(add, strict=strict)]).run("q")
    (result,) = [turn.content for turn in backend.prompts[-1].turns if turn.role == "tool"]
    assert (result == "3") is strict


async def test_tokens_are_counted_before_a_request() -> None:
    backend = Talk(ANSWERS)
    asked = model(backend)
    counted = await asked.count_tokens([ModelRequest.user_text_prompt("one two three")], None, ModelRequestParameters())
    assert counted.input_tokens == len(["user", ":", "one", "two", "three"])
    assert not backend.requests
    limits = UsageLimits(input_tokens_limit=5, count_tokens_before_request=True)
    with pytest.raises(UsageLimitExceeded):
        await Agent(asked).run("word " * 20, usage_limits=limits)
    assert not backend.requests
