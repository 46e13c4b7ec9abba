"""Every adapter over a server, by its address alone."""

import pytest
from inspect_ai.model import ChatMessageUser, GenerateConfig
from pydantic_ai import Agent

import branchwise as bw
from branchwise.chat.config import ChatConfig
from branchwise.integrations.inspect_ai import BranchwiseAPI
from branchwise.integrations.langchain import ChatBranchwise
from branchwise.integrations.lm_eval import BranchwiseLM
from branchwise.integrations.pydantic_ai import BranchwiseModel
from tests.support.fake_server import FakeServer
from tests.support.openai_backends import ANSWER, OPENAI

QUESTION = "What is 6 times 7?"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(lambda prompt, before: ANSWER, OPENAI)


def sent_key(server: FakeServer) -> set[str | None]:
    return {headers.get("authorization") for headers in server.headers}


def test_langchain_connects(server: FakeServer) -> None:
    with server:
        model = ChatBranchwise(base_url=server.url, api_key="sk-secret", context=4000, paths=3)
        assert model.invoke(QUESTION).content == ANSWER
        assert model.model == "fake"
    assert sent_key(server) == {"Bearer sk-secret"}
    assert "sk-secret" not in repr(model) + str(model._identifying_params)


async def test_pydantic_ai_connects(server: FakeServer) -> None:
    with server:
        model = BranchwiseModel("fake", base_url=server.url, context="4000", paths=3)
        assert (await Agent(model).run(QUESTION)).output == ANSWER
        await model.aclose()


async def test_inspect_ai_connects(server: FakeServer) -> None:
    with server:
        api = BranchwiseAPI("fake", base_url=f"{server.url}/v1", api_key="sk-secret", paths=3)
        output = await api.generate([ChatMessageUser(content=QUESTION)], [], "none", GenerateConfig())
        assert output.completion == ANSWER
        await api.aclose()
    assert sent_key(server) == {"Bearer sk-secret"}


def test_lm_eval_connects(server: FakeServer) -> None:
    with server:
        model = BranchwiseLM(base_url=server.url, paths="3", temperature="0.7")
        assert model.backend.capabilities.model == "fake"
        result = bw.solve_sync(QUESTION, model.backend, strategy=bw.Greedy())
    assert result.answer == "42"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base_url": "http://x", "dtype": "float32"}, "dtype: is set together with base_url"),
        ({"context": 4096}, "context: is set without base_url"),
        ({"api_key": "sk"}, "api_key: is set without base_url"),
        ({"base_url": "x"}, "base_urls: contains 'x'"),
        ({"base_url": "http://x", "context": 0}, "context: is 0"),
    ],
)
def test_arguments_that_contradict_each_other_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(bw.ConfigError, match=words):
        ChatConfig.parse(arguments).load("fake")


def test_a_strategy_that_needs_continuation_is_refused_or_votes(server: FakeServer) -> None:
    with server:
        refused = ChatBranchwise(base_url=server.url, strategy="beam", paths=4)
        with pytest.raises(bw.ConfigError, match="does not continue text"):
            refused.invoke(QUESTION)
        allowed = ChatBranchwise(base_url=server.url, strategy="beam", paths=4, allow_fallback=True)
        assert allowed.invoke(QUESTION).content == ANSWER
