"""Requests that are rejected with the name of the field, and fields that change nothing."""

import openai
import pytest
from pydantic import JsonValue

from tests.support.serving_lab import RIGHT, TOOL, scripted, serving, tool_choice

INVALID: list[tuple[dict[str, JsonValue], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"),
    ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
    ({"parallel_tool_calls": "never"}, "parallel_tool_calls"),
    ({"tools": [{**TOOL, "function": {"name": "w", "strict": True, "parameters": {"type": 1}}}]}, "tools"),
    ({"n": 0}, "n"),
    ({"n": 65}, "n"),
    ({"n": 2, "branchwise": {}}, "n"),
    ({"stop": [""]}, "stop"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "required", "tools": [TOOL]}, "tool_choice"),  # plain sampling
    ({"tool_choice": "required", "branchwise": {}}, "tool_choice"),
    ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice"),
    ({"tool_choice": {"type": "function"}, "tools": [TOOL], "branchwise": {}}, "tool_choice"),
    ({"tool_choice": tool_choice("tides"), "tools": [TOOL], "branchwise": {}}, "tool_choice"),
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
    ({"branchwise": {"strategy": "os:system"}}, "branchwise.strategy"),
    ({"branchwise": {"strategy": "examples/own_strategy.py:UntilTwoAgree"}}, "branchwise.strategy"),
    ({"model": "scripted@examples/own_strategy.py:UntilTwoAgree"}, "branchwise.strategy"),
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


async def test_invalid_fields_are_named() -> None:
    async with serving(scripted(RIGHT)) as served:
        for body, field in INVALID:
            for stream in (False, True):
                response = await served.chat(**body, stream=stream)
                error = response.json()["error"]
                assert (response.status_code, error["param"]) == (400, field), (body, error)
                assert error["type"] == "invalid_request_error"
                assert error["message"].startswith(field)
        with pytest.raises(openai.BadRequestError, match=r"branchwise\.paths"):
            await served.client.chat.completions.create(
                model="scripted", messages=[], extra_body={"branchwise": {"paths": "many"}}
            )


async def test_neutral_fields_are_accepted() -> None:
    neutral: dict[str, JsonValue] = {
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "stop": None,
        "tools": [],
        "max_tokens": None,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "stream_options": None,
        "top_k": -1,
    }
    async with serving(scripted(RIGHT)) as served:
        assert (await served.chat(**neutral)).json()["choices"][0]["message"]["content"] == RIGHT
        cut = (await served.chat(max_tokens=3, max_completion_tokens=3)).json()
        assert (cut["usage"]["completion_tokens"], cut["choices"][0]["finish_reason"]) == (3, "length")
