"""Error replies: OpenAI's statuses and codes, and little of the client's own input."""

import random

import pytest
from pydantic import JsonValue

from tests.support.malformed import LONG, malformed_bodies
from tests.support.serving_lab import CHAT, NATIVE, chat_body, scripted, serving


def longest_repeat(text: str, of: str = "x9") -> int:
    """Return the length of the longest run of `of` in a text."""
    best = run = place = 0
    while place < len(text):
        run = run + len(of) if text.startswith(of, place) else 0
        place += len(of) if run else 1
        best = max(best, run)
    return best


BODIES: list[JsonValue] = [
    chat_body(model=LONG),
    chat_body(model=f"scripted@{LONG}"),
    chat_body(**{LONG: 1}),
    chat_body(messages=LONG),
    chat_body(messages=[{"role": LONG, "content": "q"}]),
    chat_body(messages=[{"role": "user", "content": [{"type": LONG}]}]),
    chat_body(temperature=LONG),
    chat_body(top_k=int("9" * 4000)),
    chat_body(stop=[LONG] * 100),
    chat_body(tools=[{"type": "function", "function": {"name": LONG, "parameters": {"type": LONG}}}]),
    chat_body(tool_choice={"type": "function", "function": {"name": LONG}}),
    chat_body(branchwise={"strategy": LONG}),
    chat_body(branchwise={"strategy": f"self-consistency:{LONG}=1"}),
    chat_body(branchwise={"task": LONG}),
    chat_body(branchwise={"answers": LONG}),
    chat_body(branchwise={LONG: LONG}),
    chat_body(branchwise={"budget": {LONG: 1}}),
    chat_body(response_format={"type": LONG}),
    [LONG],
    LONG,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body)[:70])
@pytest.mark.parametrize("path", [CHAT, NATIVE])
async def test_replies_repeat_little_of_the_input(path: str, body: JsonValue) -> None:
    async with serving(scripted("The answer is 42.")) as served:
        response = await served.http.post(path, json=body)
    assert response.status_code < 500
    if response.status_code >= 400:
        assert len(response.content) <= 1024
        assert longest_repeat(response.text) <= 200
        assert response.json()["error"]["message"]


async def test_malformed_bodies_get_short_client_errors() -> None:
    places = random.Random(24)
    async with serving(scripted("The answer is 42.")) as served:
        for body in malformed_bodies(600, "scripted", seed=24):
            response = await served.http.post(
                places.choice((CHAT, NATIVE)), content=body, headers={"content-type": "application/json"}
            )
            assert response.status_code < 500, body[:500]
            if response.status_code != 200:
                assert len(response.content) <= 1024, response.text


async def test_unknown_routes_repeat_little_of_the_path() -> None:
    async with serving(scripted("42")) as served:
        response = await served.http.get(f"/{LONG}")
    assert response.status_code == 404
    assert longest_repeat(response.text) <= 200


async def test_prompts_beyond_the_context_have_their_own_code() -> None:
    async with serving(scripted("42")) as served:
        response = await served.chat(messages=[{"role": "user", "content": "word " * 20_000}])
        invalid = await served.chat(temperature=-1)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert (invalid.status_code, invalid.json()["error"]["code"]) == (400, "invalid_value")
