"""POST /v1/branchwise: the whole result of a question."""

import pytest
from pydantic import JsonValue

from tests.support.serving_lab import NATIVE, RIGHT, WRONG, events, is_consistent, scripted, serving


async def test_native_route_returns_the_whole_result() -> None:
    async with serving(scripted(RIGHT, WRONG, RIGHT)) as served:
        body: dict[str, JsonValue] = {"question": "6 * 7?", "strategy": "self-consistency", "paths": 3, "seed": 1}
        details = (await served.http.post(NATIVE, json=body)).json()
        stream = await served.http.post(NATIVE, json={**body, "stream": True})
    assert (details["object"], details["model"], details["answer"]) == ("branchwise", "scripted", "42")
    assert details["message"] == {"role": "assistant", "content": RIGHT}
    assert [path["text"] for path in details["paths"]] == [RIGHT, WRONG, RIGHT]
    assert details["votes"] == {"42": 2.0, "41": 1.0}
    assert is_consistent(details["usage"])
    assert events(stream.text)[-1]["branchwise"]["answer"] == "42"


@pytest.mark.parametrize(
    ("status", "field", "body"),
    [
        (400, "paths", {"question": "q", "paths": 1000}),
        (400, "budget.tokens", {"question": "q", "budget": {"tokens": 10**9}}),
        (400, "question", {"paths": 2}),
        (400, "question", {"question": "q", "messages": [{"role": "user", "content": "q"}]}),
        (400, "question", {"question": 7}),
        (400, "branchwise", {"question": "q", "branchwise": {}}),
        (400, "body", ["q"]),
        (404, "model", {"question": "q", "model": "another"}),
    ],
)
async def test_invalid_native_fields_are_named(status: int, field: str, body: JsonValue) -> None:
    async with serving(scripted(RIGHT)) as served:
        response = await served.http.post(NATIVE, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, field)
