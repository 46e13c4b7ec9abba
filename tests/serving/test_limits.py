"""The operator's limits."""

from dataclasses import replace

import pytest
from pydantic import JsonValue

from branchwise.backends.scripted.backend import Reply
from branchwise.chat.limits import Limits
from branchwise.core.errors import ConfigError
from tests.support.serving_lab import RIGHT, events, scripted, serving


@pytest.mark.parametrize("field", ["paths", "tokens", "seconds", "body_bytes", "questions", "queue_seconds"])
def test_limits_must_be_positive(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        replace(Limits(), **{field: 0})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, {"strategy": "greedy"}])
async def test_time_limit_returns_the_text_so_far(key: JsonValue, stream: bool) -> None:
    async with serving(scripted(Reply(RIGHT, delay=0.1)), Limits(seconds=0.35)) as served:
        response = await served.chat(branchwise=key, stream=stream)
    if stream:
        chunks = events(response.text)
        text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
        reason, details = chunks[-1]["choices"][0]["finish_reason"], chunks[-1]["branchwise"]
    else:
        body = response.json()
        text, details = body["choices"][0]["message"]["content"], body["branchwise"]
        reason = body["choices"][0]["finish_reason"]
    assert RIGHT.startswith(text)
    assert 3 <= len(text) < len(RIGHT)
    assert (reason, details["outcome"]) == ("length", "seconds_spent")
    assert details["usage"]["sampled"] == details["usage"]["discarded"] > 0


async def test_token_budget_is_kept() -> None:
    key: JsonValue = {"strategy": "self-consistency", "paths": 8, "budget": {"tokens": 30}}
    async with serving(scripted(RIGHT)) as served:
        details = (await served.chat(branchwise=key, max_tokens=12)).json()["branchwise"]
    assert details["outcome"] == "tokens_spent"
    assert details["answer"] == "42"
    assert details["usage"]["sampled"] <= 30
