"""Features that the OpenAI backend observes on a server."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.backends.base import Capabilities
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.probe import block_size
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.core.errors import BackendError
from tests.support.fake_server import FakeFeatures
from tests.support.openai_backends import (
    ANSWER,
    OPENAI,
    STRICT,
    TEXT,
    generate,
    make_root,
    serve,
    settings,
)


def test_a_server_with_token_ids_has_all_capabilities() -> None:
    with serve() as server:
        capabilities = OpenAIBackend.load(settings(server)).capabilities
    assert capabilities == Capabilities(
        model="fake",
        context=512,
        token_in=True,
        token_out=True,
        prefix_reuse=16,
        logprobs=True,
        top_k_logprobs=20,
        score=True,
        keyed=False,
        per_branch_cancel=True,
    )


@pytest.mark.parametrize(
    ("server_features", "observed"),
    [
        (FakeFeatures(block=1), {"reuse": 1}),
        (FakeFeatures(block=128), {"reuse": 128}),
        (FakeFeatures(cached=False), {"reuse": 0}),
        (FakeFeatures(alternatives=5), {"alternatives": 5}),
        (FakeFeatures(alternatives=64), {"alternatives": 64}),
        (FakeFeatures(score=False), {"score": False}),
        (FakeFeatures(includes_stop=False), {"includes_stop": False, "tokens": True}),
        (FakeFeatures(chunk=3), {"includes_stop": True, "tokens": True}),
        (FakeFeatures(refused=("seed",)), {"seeds": False, "tokens": True}),
        (FakeFeatures(refused=("logprobs",)), {"logprobs": False, "alternatives": 0, "tokens": True}),
        (TEXT, {"tokens": False, "includes_stop": True, "running_usage": True, "logprobs": True, "temperature": True}),
        (TEXT, {"continuation": "fields"}),
        *((replace(TEXT, continuation=way), {"continuation": way}) for way in ("plain", "flag")),
        (replace(TEXT, continuation="plain", usage=False), {"continuation": "plain"}),
        (replace(TEXT, continuation="flag", chunk=3, logprobs=False), {"continuation": "flag"}),
        (replace(TEXT, continuation="never"), {"continuation": None}),
        (replace(TEXT, continuation="never", usage=False), {"continuation": None}),
        (replace(TEXT, continuation="never", completes=True), {"continuation": "transcript"}),
        (replace(TEXT, usage=False), {"usage": False, "running_usage": False, "reuse": 0}),
        (replace(TEXT, refused=("max_tokens",)), {"max_tokens_field": "max_completion_tokens"}),
        (
            replace(STRICT, context=512),
            {"includes_stop": False, "continuation": None, "running_usage": False, "usage": True, "seeds": True},
        ),
        (replace(TEXT, temperatures=(1.0,)), {"temperature": False, "greedy": False, "seeds": True, "logprobs": True}),
        (replace(TEXT, temperatures=(0.7, 1.0)), {"temperature": True, "greedy": False}),
        (replace(FakeFeatures(), temperatures=(1.0,)), {"temperature": False, "tokens": True, "seeds": True}),
        (
            OPENAI,
            {"temperature": False, "max_tokens_field": "max_completion_tokens", "logprobs": False, "usage": True},
        ),
        (OPENAI, {"context": 4096, "context_reported": False, "includes_stop": False, "continuation": None}),
        (replace(TEXT, refused=("logprobs", "seed", "stream_options")), {"logprobs": False, "usage": False}),
    ],
    ids=str,
)
def test_features_are_those_observed(server_features: FakeFeatures, observed: dict[str, object]) -> None:
    with serve(features=server_features) as server:
        features = OpenAIBackend.load(settings(server)).features
    assert {name: getattr(features, name) for name in observed} == observed


def test_token_ids_can_be_switched_off() -> None:
    with serve() as server:
        assert not OpenAIBackend.load(settings(server, tokens="off")).capabilities.token_in


@given(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]), st.sampled_from([64, 128, 256]))
def test_a_prompt_of_a_power_of_two_determines_the_block_size(block: int, prompt: int) -> None:
    cached = (prompt - 1) // block * block
    assert block_size(prompt, cached) == (block if cached else 0)
    assert block_size(prompt, prompt) == 1


def test_an_unreported_context_is_assumed_and_noted() -> None:
    with serve(features=STRICT) as server:
        assumed, given = (OpenAIBackend.load(settings(server, context=given)).capabilities for given in (None, 9000))
    assert (assumed.context, given.context, given.notes) == (4096, 9000, ())
    assert "4096 tokens are assumed" in assumed.notes[0]


@pytest.mark.parametrize("field", ["messages", "model", "stream"])
def test_a_refused_probe_shows_the_words_of_the_server(field: str) -> None:
    with serve(features=replace(TEXT, refused=(field,))) as server, pytest.raises(BackendError) as caught:
        OpenAIBackend.load(settings(server))
    assert f"Unrecognized request argument supplied: {field}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreachable_server_is_named() -> None:
    with pytest.raises(BackendError, match=r"http://127.0.0.1:1 can't be reached .*base_urls") as caught:
        OpenAIBackend.load(OpenAISettings(("http://127.0.0.1:1/v1",), retries=0))
    assert caught.value.retryable


async def test_load_works_inside_a_running_event_loop() -> None:
    with serve() as server:
        backend = OpenAIBackend.load(settings(server))
        (branch,) = await generate(backend, await make_root(backend))
        assert branch.text == ANSWER
        await backend.close()
