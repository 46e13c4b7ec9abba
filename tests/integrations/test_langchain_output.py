"""LangChain's structured output, options of tools and token counts, over strategies."""

from typing import Any, Literal, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.tools import tool
from pydantic import BaseModel

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.integrations.langchain import ChatBranchwise
from tests.support.talks import Talk, call

ANSWERS = ["The answer is 41.", "So the answer is 42.", "Hm.", "The answer is 42.", "The answer is 42."]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def model(backend: bw.Backend, **given: object) -> ChatBranchwise:
    fields: dict[str, Any] = {"strategy": "self-consistency", "paths": 5, **given}
    return ChatBranchwise(backend=backend, **fields)


class Place(BaseModel):
    """A place."""

    city: str
    people: int


OBJECTS = ('{"city": "Paris", "people": 2}', 'So {"city": "Rome", "people": 3}', '{"city": "Paris", "people": 3}', "?")


def test_objects_are_voted_field_by_field() -> None:
    backend = Talk(OBJECTS)
    asked = model(backend, paths=4).with_structured_output(Place, include_raw=True)
    told = asked.invoke("Which city?")
    assert isinstance(told, dict)
    assert (told["parsed"], told["parsing_error"]) == (Place(city="Paris", people=3), None)
    assert isinstance(told["raw"], AIMessage)
    assert isinstance(told["raw"], AIMessage)
    assert told["raw"].response_metadata["branchwise"]["value"] == {"city": "Paris", "people": 3}
    (system, _) = backend.prompts[0].turns
    assert '"people"' in system.content
    assert not backend.prompts[0].tools
    assert model(Talk(OBJECTS), paths=4).with_structured_output(Place).invoke("q") == Place(city="Paris", people=3)


def test_no_object_is_an_error_of_the_parser() -> None:
    with pytest.raises(OutputParserException):
        model(Talk(["Hm."])).with_structured_output(Place).invoke("q")
    told = model(Talk(["Hm."])).with_structured_output(Place, include_raw=True).invoke("q")
    assert isinstance(told, dict)
    assert told["parsed"] is None
    assert isinstance(told["parsing_error"], OutputParserException)


def test_objects_are_arguments_of_a_tool_on_demand() -> None:
    replies = [call("Place", each) for each in (OBJECTS[0], OBJECTS[2], OBJECTS[0])]
    asked = model(Talk(replies), paths=3).with_structured_output(Place, method="function_calling")
    assert asked.invoke("q") == Place(city="Paris", people=2)


class Town(TypedDict):
    """A town."""

    name: str


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TITLED = {"title": "Town", **SCHEMA}
FUNCTION = {"type": "function", "function": {"name": "Town", "description": "A town.", "parameters": SCHEMA}}


@pytest.mark.parametrize("schema", [Town, TITLED, FUNCTION])
def test_other_schemas_are_tools(schema: dict[str, Any] | type) -> None:
    assert model(Talk([call("Town", '{"name": "Bath"}')])).with_structured_output(schema).invoke("q") == {
        "name": "Bath"
    }


@pytest.mark.parametrize("schema", [Town, SCHEMA, TITLED, FUNCTION])
def test_objects_of_other_schemas_are_voted_on(schema: dict[str, Any] | type) -> None:
    backend = Talk(['{"name": 7}', '{"town": "Rome"}', 'So {"name": "Bath"}.', '{"name": 7}'])
    asked = model(backend, paths=4).with_structured_output(schema, method="json_schema", include_raw=True)
    told = asked.invoke("q")
    assert isinstance(told, dict)
    assert (told["parsed"], told["parsing_error"]) == ({"name": "Bath"}, None)  # the others do not fit
    assert isinstance(told["raw"], AIMessage)
    assert told["raw"].response_metadata["branchwise"]["votes"] == {'{"name": "Bath"}': 1.0}
    assert '"name"' in backend.prompts[0].turns[0].content
    with pytest.raises(OutputParserException):
        model(Talk(['{"name": 7}'])).with_structured_output(schema, method="json_schema").invoke("q")


def test_json_mode_leaves_the_prompt_unchanged() -> None:
    for schema, expected in ((Place, Place(city="Paris", people=3)), (None, {"city": "Paris", "people": 3})):
        backend = Talk(OBJECTS)
        asked = model(backend, paths=4).with_structured_output(schema, method="json_mode")
        assert asked.invoke("Answer in JSON.") == expected
        assert [turn.content for turn in backend.prompts[0].turns] == ["Answer in JSON."]


async def test_a_single_object_is_streamed_whole() -> None:
    asked = model(Talk(OBJECTS[1:2]), strategy="greedy").with_structured_output(Place, method="json_mode")
    assert [piece async for piece in asked.astream("q")][-1] == Place(city="Rome", people=3)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_strict_is_accepted(method: Literal["json_schema", "function_calling"]) -> None:
    replies = [*['{"city": "Rome"}'] * 2, OBJECTS[0]]
    said = replies if method == "json_schema" else [call("Place", each) for each in replies]
    asked = model(Talk(said), paths=3).with_structured_output(Place, method=method, strict=True)
    assert asked.invoke("q") == Place(city="Paris", people=2)


def test_a_tool_is_called_once_for_an_object() -> None:
    two = call("Place", OBJECTS[2]) + call("Place", OBJECTS[0])
    asked = model(Talk([two]), paths=1).with_structured_output(Place, method="function_calling", include_raw=True)
    told = asked.invoke("q")
    assert isinstance(told, dict)
    assert isinstance(told["raw"], AIMessage)
    assert (len(told["raw"].tool_calls), told["parsed"]) == (1, Place(city="Paris", people=3))


@pytest.mark.parametrize(
    ("schema", "given", "message"),
    [
        (Place, {"tools": []}, "tools: is not supported; remove it"),
        (Place, {"method": "grammar"}, "method: is 'grammar'; use one of json_schema, function_calling, json_mode"),
        (None, {}, "schema: is missing; pass one, or use method='json_mode'"),
        ({"type": "string"}, {"method": "json_schema"}, "schema: can't be read"),
        ({**SCHEMA, "required": 7}, {"method": "json_schema"}, "schema: the schema of the answer is invalid"),
    ],
)
def test_a_schema_or_method_that_is_invalid(
    schema: type | dict[str, object] | None, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        model(Talk(OBJECTS)).with_structured_output(schema, **given)


# Calls


@pytest.mark.parametrize(("parallel", "count"), [(None, 2), (True, 2), (False, 1)])
def test_parallel_tool_calls(parallel: bool | None, count: int) -> None:
    asked = model(Talk(["[add(a=1, b=2), add(a=3, b=4)]"])).bind_tools([add], parallel_tool_calls=parallel)
    said = asked.invoke("q")
    assert [made["args"] for made in said.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}][:count]


def test_strict_tools_are_called_with_fitting_arguments() -> None:
    wrong, right = call("add", '{"a": "1", "b": 2}'), call("add", '{"a": 1, "b": 2}')
    for strict, first in ((None, "1"), (True, 1)):
        backend = Talk([wrong, wrong, right])
        said = model(backend, paths=3).bind_tools([add], strict=strict, tool_choice="any").invoke("q")
        assert said.tool_calls[0]["args"]["a"] == first


# Tokens


def test_tokens_are_those_of_the_backend() -> None:
    asked = model(Talk(ANSWERS))
    assert asked.get_num_tokens("one two, three") == len(asked.get_token_ids("one two, three")) == 4
    assert asked.get_num_tokens("") == asked.get_num_tokens_from_messages([]) == 0
    chat = [SystemMessage("Be brief."), HumanMessage("one two three")]
    assert asked.get_num_tokens_from_messages(chat) == 11


def test_tokens_are_estimated_without_a_tokenizer() -> None:
    class Mute(Talk):
        async def tokenize(self, text: str | bw.Messages) -> None:  # type: ignore[override]
            return None

    asked = model(Mute(ANSWERS))
    assert [asked.get_num_tokens(text) for text in ("", "four", "fives", "六六")] == [0, 1, 2, 2]
    called = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}])
    assert asked.get_num_tokens_from_messages([HumanMessage("four"), called]) == 4 + 1 + 4 + 3
    with_tools = asked.get_num_tokens_from_messages([HumanMessage("four")], tools=[add])
    assert with_tools > asked.get_num_tokens_from_messages([HumanMessage("four")]) + 20
    with pytest.raises(bw.ConfigError, match="model: has no tokenizer here; count with get_num_tokens"):
        asked.get_token_ids("four")
    own = ChatBranchwise(backend=Mute(ANSWERS), custom_get_token_ids=lambda text: [1] * len(text))
    assert own.get_num_tokens("four") == len(own.get_token_ids("four")) == 4
    assert own.get_num_tokens_from_messages([HumanMessage("four")]) == 4


@pytest.mark.parametrize("strategy", ["first", "last"])
def test_messages_are_trimmed_to_a_number_of_tokens(strategy: Literal["first", "last"]) -> None:
    chat = [HumanMessage(f"{name} " + "word " * 100) for name in ("one", "two", "three")]
    kept = trim_messages(chat, max_tokens=250, token_counter=model(Talk(ANSWERS)), strategy=strategy)
    assert kept == (chat[:2] if strategy == "first" else chat[1:])
    assert trim_messages(chat, max_tokens=5, token_counter=model(Talk(ANSWERS)), strategy=strategy) == []


async def test_the_engine_counts_prompts_of_any_length(tiny_engine: Engine) -> None:
    asked = model(tiny_engine)
    one, two = HumanMessage("What is 6 times 7?"), AIMessage("The answer is 42.")
    short = asked.get_num_tokens_from_messages([one])
    prompt = bw.Messages(turns=(bw.Message(role="user", content="What is 6 times 7?"),))
    assert short == len((await tiny_engine.root(prompt, 1)).token_ids)
    assert short < asked.get_num_tokens_from_messages([one, two]) < 4 * short
    assert asked.get_num_tokens_from_messages([HumanMessage("word " * 5_000)]) > tiny_engine.capabilities.context
    assert asked.get_num_tokens("What is 6 times 7?") < short
    # This template takes no tools: they are counted as text.
    assert asked.get_num_tokens_from_messages([one], tools=[add]) > short
