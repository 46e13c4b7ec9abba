"""One conversation with `vllm serve` (with the plugin) and with `branchwise serve`, by the official client."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.vllm.servers import API_KEY, MAX_PATHS, MAX_SECONDS, MAX_TOKENS, VLLM, Server, serving, wait_until

CLIPS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)
MESSAGES = [{"role": "user", "content": CLIPS}]
SEED = 1
PATHS, FEW = 8, 3


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=API_KEY, max_retries=0, timeout=900) as client:
        yield client


def voted(**key: object) -> dict[str, object]:
    return {"branchwise": {"strategy": "path-consistency", "paths": PATHS, "seed": SEED, "answers": "math", **key}}


def test_a_plain_question_is_one_sample(server: Server, client: openai.OpenAI) -> None:
    paris = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    asked = {"model": server.model, "messages": paris, "temperature": 0, "max_tokens": 16}
    reply = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True)
    assert "Paris" in reply.choices[0].message.content
    assert (len(reply.choices), reply.choices[0].finish_reason) == (1, "stop")
    assert 0 < reply.usage.completion_tokens <= 16
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == reply.choices[0].message.content
    assert server.model in [model.id for model in client.models.list()]


def test_a_strategy_answers_correctly(server: Server, client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model=server.model, messages=MESSAGES, temperature=0.7, max_tokens=300, extra_body=voted()
    )
    result = reply.model_extra["branchwise"]
    assert result["answer"] == "72"
    assert result["votes"]["72"] == max(result["votes"].values())
    assert 0 < result["confidence"] <= 1
    assert result["outcome"] == "complete"
    assert (result["errors"], result["seed"]) == ([], SEED)
    assert "72" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    usage, ledger = reply.usage, result["usage"]
    assert (usage.prompt_tokens, usage.completion_tokens) == (ledger["prompt"], ledger["sampled"])
    assert usage.prompt_tokens_details.cached_tokens == ledger["reused"] > 0
    assert ledger["prompt"] == ledger["reused"] + ledger["prefilled"]
    assert server.busy() == 0


def test_a_strategy_is_streamed(server: Server, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=server.model,
        messages=MESSAGES,
        temperature=0.7,
        max_tokens=300,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=voted(paths=FEW),
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    (last,) = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert last.model_extra["branchwise"]["answer"] in text
    assert chunks[-1].usage.completion_tokens == last.model_extra["branchwise"]["usage"]["sampled"]


def test_one_path_is_streamed_as_it_is_generated(server: Server, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=server.model, messages=MESSAGES, max_tokens=40, stream=True, extra_body={"branchwise": {"paths": 1}}
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
    assert len(pieces) >= 3  # accepted drafts come together


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnected_client_cancels_every_branch(server: Server, stream: bool) -> None:
    key = {"strategy": "self-consistency", "paths": PATHS, "answers": "math"}  # or one path would show that none votes
    story = [{"role": "user", "content": "Write a very long story about a fox."}]
    body = {"model": server.model, "messages": story, "max_tokens": 900, "stream": stream, "branchwise": key}
    headers = {**server.headers, "content-type": "application/json"}
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    wait_until(lambda: server.busy() == PATHS, 30)
    if stream:
        assert connection.getresponse().read1(100).startswith(b"data: ")
    connection.close()
    assert wait_until(lambda: server.busy() == 0, 2) < 2


def test_a_wrong_key_is_refused(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model=server.model, messages=MESSAGES, extra_body=voted())
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model=server.model, messages=MESSAGES)
    assert httpx.post(f"{server.address}/v1/branchwise", json={"question": CLIPS}).status_code == 401


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("branchwise.paths", {"paths": MAX_PATHS + 1}),
        ("branchwise.budget.tokens", {"budget": {"tokens": MAX_TOKENS + 1}}),
        ("branchwise.budget.seconds", {"budget": {"seconds": MAX_SECONDS + 1}}),
        ("branchwise.strategy", {"strategy": "no-such-strategy"}),
        ("branchwise.path", {"path": 4}),
    ],
)
def test_limits_are_enforced_by_name(server: Server, client: openai.OpenAI, field: str, key: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=server.model, messages=MESSAGES, extra_body=voted(**key))
    assert caught.value.status_code == 400
    assert caught.value.param == field
    assert field in str(caught.value)


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    for body in (voted(), {}):
        with pytest.raises(openai.NotFoundError, match="another"):
            client.chat.completions.create(model="another", messages=MESSAGES, extra_body=body)


def test_a_question_returns_its_whole_result(server: Server) -> None:
    body = {"question": CLIPS, "paths": FEW, "seed": SEED, "temperature": 0.7, "max_tokens": 300}
    reply = httpx.post(f"{server.address}/v1/branchwise", json=body, headers=server.headers, timeout=900)
    assert reply.status_code == 200
    result = reply.json()
    assert (result["object"], result["model"], result["seed"]) == ("branchwise", server.model, SEED)
    assert 1 <= len(result["paths"]) <= FEW
    assert {"votes", "confidence", "usage", "tree", "outcome", "advice"} < result.keys()
    assert result["answer"] in result["message"]["content"]


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("paths", {"question": CLIPS, "paths": 1000}),
        ("question", {"paths": 2}),
        ("question", {"question": CLIPS, "messages": MESSAGES}),
        ("branchwise", {"question": CLIPS, "branchwise": {}}),
    ],
)
def test_invalid_questions_are_refused_by_field(server: Server, field: str, body: dict[str, object]) -> None:
    reply = httpx.post(f"{server.address}/v1/branchwise", json=body, headers=server.headers)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == field


@pytest.mark.parametrize("server", [VLLM], indirect=True)
def test_requests_without_the_key_get_vllms_own_replies(server: Server, tmp_path: Path) -> None:
    """A server without the plugin gives the same replies, byte for byte but for ids and times."""
    new = [{"role": "user", "content": "Name the colours of the rainbow, the last one first."}]  # in no cache yet
    plain = {"model": server.model, "messages": new, "temperature": 0, "max_tokens": 30}
    requests: list[dict[str, object]] = [
        plain,
        {**plain, "stream": True, "stream_options": {"include_usage": True}},
        {**plain, "logprobs": True, "top_logprobs": 2, "n": 2, "temperature": 0.9, "seed": 5},
        {**plain, "max_tokens": -1},
        {**plain, "messages": "none"},
        {**plain, "model": "another"},
        {**plain, "branchwise": None},
    ]
    ours = [_raw(server, request) for request in requests]
    with serving(VLLM, server.model, tmp_path / "log", plugin=False) as other:
        assert httpx.post(f"{other.address}/v1/branchwise", headers=other.headers, json={}).status_code == 404
        theirs = [_raw(other, request) for request in requests]
    assert [status for status, _, _ in ours] == [200, 200, 200, 400, 400, 404, 200]
    assert ours == theirs


def _raw(server: Server, body: dict[str, object]) -> tuple[int, str, str]:
    """Return status, content type and text of a reply, with ids, times and the server's number replaced."""
    reply = httpx.post(f"{server.address}/v1/chat/completions", json=body, headers=server.headers, timeout=900)
    text = re.sub(r'"(id|created)": ?("chatcmpl-[0-9a-f]+"|\d+)', r'"\1":…', reply.text)
    text = re.sub(r'("system_fingerprint": ?"[^"]*)-[0-9a-f]{8}"', r'\1-…"', text)  # of how it was started
    if not body.get("stream"):
        assert json.loads(reply.text)
    return reply.status_code, reply.headers["content-type"], text
