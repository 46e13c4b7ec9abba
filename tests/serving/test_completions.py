"""Chat completions over HTTP: plain sampling and strategies, requested by OpenAI's client and by hand."""

from dataclasses import replace

import pytest
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.backends.scripted.backend import Reply
from tests.support.serving_lab import FULL, RIGHT, WRONG, PromptRecorder, events, is_consistent, scripted, serving


async def test_plain_request_returns_one_sample() -> None:
    async with serving(scripted(RIGHT, WRONG)) as served:
        reply = await served.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "6 * 7?"}]
        )
    assert (reply.object, reply.model, len(reply.choices)) == ("chat.completion", "scripted", 1)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (RIGHT, "stop")
    assert reply.choices[0].message.tool_calls is None
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 11
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 11


async def test_n_returns_that_many_samples() -> None:
    async with serving(scripted(RIGHT, WRONG)) as served:
        body = (await served.chat(n=3)).json()
    assert [choice["message"]["content"] for choice in body["choices"]] == [RIGHT, WRONG, RIGHT]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == body["branchwise"]["usage"]["sampled"] == 11 + 9 + 11
    assert "answer" not in body["branchwise"]


async def test_sampling_options_apply() -> None:
    async with serving(scripted(RIGHT)) as served:
        cut = (await served.chat(max_completion_tokens=4)).json()["choices"][0]
        stopped = (await served.chat(stop="42", temperature=0.2, top_p=0.9, seed=3)).json()["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("Six times seven is", "length")
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("Six times seven is ", "stop")


async def test_branchwise_key_selects_a_strategy() -> None:
    async with serving(scripted(WRONG, RIGHT, RIGHT)) as served:
        reply = await served.client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "6 * 7?"}],
            extra_body={"branchwise": {"strategy": "self-consistency", "paths": 3}},
        )
    details = (reply.model_extra or {})["branchwise"]
    assert reply.choices[0].message.content == RIGHT
    assert (details["answer"], details["votes"], details["outcome"]) == ("42", {"42": 2.0, "41": 1.0}, "complete")
    assert details["confidence"] > 0.5
    assert "paths" not in details
    assert is_consistent(details["usage"])
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == details["usage"]["prompt"] > 0
    assert reply.usage.completion_tokens == details["usage"]["sampled"] == 9 + 11 + 11
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == details["usage"]["reused"] > 0


@pytest.mark.parametrize(
    ("model", "key", "strategy", "paths"),
    [
        ("scripted@self-consistency", None, "self-consistency", 16),
        ("scripted@esc:window=2", {"paths": 4}, "esc:window=2", 2),
        ("scripted", {}, "adaptive-path-consistency", 3),
        ("scripted", {"strategy": "greedy"}, "greedy", 1),
    ],
)
async def test_model_name_selects_a_strategy(model: str, key: JsonValue, strategy: str, paths: int) -> None:
    async with serving(scripted(RIGHT)) as served:
        body = (await served.chat(model=model, branchwise=key)).json()
    assert (body["model"], body["branchwise"]["strategy"], body["branchwise"]["answer"]) == (model, strategy, "42")
    assert body["branchwise"]["votes"] == {"42": paths}


async def test_details_include_paths_and_tree() -> None:
    key: JsonValue = {"strategy": "self-consistency", "paths": 2, "details": True}
    async with serving(scripted(RIGHT, WRONG)) as served:
        reply = (await served.chat(branchwise=key)).json()["branchwise"]
    assert [path["text"] for path in reply["paths"]] == [RIGHT, WRONG]
    assert len(reply["tree"]) == 3


@pytest.mark.parametrize(
    "how", [{}, {"continue_final_message": True, "add_generation_prompt": False}, {"add_generation_prompt": False}]
)
async def test_last_assistant_message_is_continued(how: dict[str, JsonValue]) -> None:
    backend = PromptRecorder(" is 42.")
    turns: JsonValue = [{"role": "user", "content": "6 * 7?"}, {"role": "assistant", "content": "The answer"}]
    async with serving(backend) as served:
        plain = (await served.chat(messages=turns, **how)).json()
        voted = (await served.chat(messages=turns, branchwise={"paths": 2}, **how)).json()
    assert [prompt.prefix for prompt in backend.prompts] == ["The answer", "The answer"]
    assert plain["choices"][0]["message"]["content"] == voted["choices"][0]["message"]["content"] == " is 42."
    assert voted["branchwise"]["answer"] == "42"


async def test_last_assistant_message_is_not_continued_on_request() -> None:
    backend = PromptRecorder("42")
    turns: JsonValue = [{"role": "user", "content": "6 * 7?"}, {"role": "assistant", "content": "Well"}]
    async with serving(backend) as served:
        await served.chat(messages=turns, continue_final_message=False)
    assert (backend.prompts[0].prefix, len(backend.prompts[0].turns)) == ("", 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_come_with_their_tokens(stream: bool) -> None:
    async with serving(scripted(Reply(RIGHT, -0.25))) as served:
        response = await served.chat(logprobs=True, stop=" The", stream=stream)
        more = await served.chat(logprobs=True, top_logprobs=1, return_tokens_as_token_ids=True)
    choice = events(response.text)[-1]["choices"][0] if stream else response.json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == "Six times seven is 42."
    assert bytes(tokens[0]["bytes"]) == tokens[0]["token"].encode()
    assert {token["logprob"] for token in tokens} == {-0.25}
    (top,) = more.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert top["token"].startswith("token_id:")


async def test_verifier_scores_paths() -> None:
    def verifier(path: bw.Path) -> float:
        return float("41" in path.answer_text)

    async with serving(scripted(RIGHT, RIGHT, WRONG), verifier=verifier) as served:
        key: JsonValue = {"strategy": "best-of-n:value=verifier", "paths": 3}
        assert (await served.chat(branchwise=key)).json()["branchwise"]["answer"] == "41"


async def test_finished_paths_survive_failed_ones() -> None:
    broken = Reply(RIGHT, fail_after=3)
    async with serving(scripted(broken, RIGHT, WRONG)) as served:
        plain = (await served.chat(n=3)).json()
        voted = (await served.chat(branchwise={"strategy": "self-consistency", "paths": 3})).json()
    assert [choice["index"] for choice in plain["choices"]] == [1, 2]
    assert [choice["message"]["content"] for choice in plain["choices"]] == [RIGHT, WRONG]
    assert "the script says so" in plain["branchwise"]["errors"][0]
    assert voted["branchwise"]["answer"] == "42"
    assert voted["branchwise"]["usage"]["discarded"] == 3


TEXT_ONLY = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)


@pytest.mark.parametrize(
    "capabilities",
    [
        TEXT_ONLY,
        replace(FULL, logprobs=False, top_k_logprobs=0),
        replace(FULL, prefix_reuse=0),
        replace(FULL, per_branch_cancel=False),
        replace(FULL, keyed=False, score=False),
    ],
)
async def test_backends_with_fewer_capabilities_are_served(capabilities: bw.Capabilities) -> None:
    async with serving(scripted(RIGHT, WRONG, RIGHT, capabilities=capabilities)) as served:
        assert (await served.chat()).json()["choices"][0]["message"]["content"] == RIGHT
        chunks = events((await served.chat(stream=True)).text)
        assert "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]) == WRONG
        for strategy in ("path-consistency", "best-of-n", "beam"):
            body = (await served.chat(branchwise={"strategy": strategy})).json()
            assert body["branchwise"]["answer"] in ("41", "42"), strategy
            assert is_consistent(body["branchwise"]["usage"])
            if not capabilities.token_out or not capabilities.keyed or not capabilities.prefix_reuse:
                assert body["branchwise"]["degraded"]
        refused = await served.chat(logprobs=True)
        assert refused.status_code == (200 if capabilities.logprobs and capabilities.token_out else 400)


async def test_equal_seeds_give_equal_texts(tiny_engine: Engine) -> None:
    async with serving(tiny_engine) as served:

        async def text(**more: JsonValue) -> tuple[str, int]:
            body = (await served.chat(model="tiny", max_tokens=12, **more)).json()
            return body["choices"][0]["message"]["content"], body["branchwise"]["seed"]

        first, seed = await text()
        again, other = await text()
        assert (first != again, seed != other) == (True, True)
        assert await text(seed=seed) == (first, seed)
        key: JsonValue = {"strategy": "self-consistency", "paths": 3, "seed": 5, "details": True}
        paths = [(await served.chat(model="tiny", max_tokens=12, branchwise=key)).json() for _ in range(2)]
        assert paths[0]["branchwise"]["paths"] == paths[1]["branchwise"]["paths"]


async def test_too_long_prompt_is_a_client_error() -> None:
    async with serving(scripted(RIGHT, capabilities=replace(FULL, context=8))) as served:
        for stream in (False, True):
            turns: JsonValue = [{"role": "user", "content": "word " * 20}]
            response = await served.chat(messages=turns, stream=stream)
            assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize(("retryable", "status"), [(True, 503), (False, 500)])
async def test_failing_backend_is_a_server_error(retryable: bool, status: int) -> None:
    broken = Reply(RIGHT, fail_after=0, retryable=retryable)
    async with serving(scripted(broken)) as served:
        keys: list[JsonValue] = [None, {"paths": 3}]
        for key in keys:
            response = await served.chat(branchwise=key)
            assert (response.status_code, response.json()["error"]["type"]) == (status, "server_error")
            assert "the script says so" in response.json()["error"]["message"]
