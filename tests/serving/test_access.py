"""API keys, and the host names under which a local server answers."""

import logging

import httpx
import openai
import pytest
from pydantic import JsonValue

from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.core.errors import ConfigError
from branchwise.serving.access import APIKeys
from branchwise.serving.hosts import host_of, is_loopback
from tests.support.serving_lab import CHAT, chat_body, serving


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Capture all log records, also if another test configured the loggers of this library."""
    monkeypatch.setattr(logging.getLogger("branchwise"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "branchwise")
    return caplog


def server_log(logs: pytest.LogCaptureFixture) -> str:
    """Return the log lines of the server, without those of its clients."""
    own = [each for each in logs.records if each.name.partition(".")[0] not in ("httpx", "httpcore", "openai")]
    return "".join(f"{each.getMessage()} {getattr(each, 'fields', '')}\n" for each in own)


async def test_key_is_required_and_never_logged(logs: pytest.LogCaptureFixture) -> None:
    async with serving(ScriptedBackend({"": ["42"]}), key="sk-right") as served:
        assert (await served.chat()).status_code == 200
        for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic sk-right"}):
            async with httpx.AsyncClient(base_url=served.url, headers=headers) as client_without_key:
                for path in ("/v1/models", "/metrics", "/nowhere"):
                    response = await client_without_key.get(path)
                    error = response.json()["error"]
                    assert (response.status_code, error["code"]) == (401, "invalid_api_key"), path
                    assert response.headers["www-authenticate"] == "Bearer"
                assert (await client_without_key.post(CHAT, content=b"x" * 100)).status_code == 401
                assert (await client_without_key.get("/health")).status_code == 200
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
    assert "401" in server_log(logs)
    assert "sk-" not in server_log(logs)


def test_keys_are_parsed_one_by_one() -> None:
    keys = APIKeys.parse(" one,two\nthree ")
    assert keys is not None
    assert all(keys.accept(f"Bearer {key}") for key in ("one", "two", "three"))
    assert not any(
        keys.accept(header) for header in (None, "", "one", "Bearer", "Bearer ", "Bearer one,two", "bearer x")
    )
    assert "one" not in repr(keys)
    assert APIKeys.parse(" ,\n") is None
    with pytest.raises(ConfigError):
        APIKeys({})


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
        ("localhost.example.org", False),
    ],
)
def test_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_host_of_drops_the_port() -> None:
    assert [host_of(header) for header in ("a:1", "a", "[::1]:80", "[::1]", "")] == ["a", "a", "[::1]", "[::1]", ""]


async def test_local_server_rejects_other_host_names() -> None:
    """A web page can point a host name of its own to the loopback address (DNS rebinding)."""
    async with serving(ScriptedBackend({"": ["42"]}), local=True) as served:
        assert (await served.chat()).status_code == 200
        assert (await served.http.get("/health", headers={"host": "localhost:80"})).status_code == 200
        response = await served.http.post(CHAT, json=chat_body(), headers={"host": "rebound.example.org"})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "host_not_allowed")


async def test_logs_contain_no_prompts_or_replies(logs: pytest.LogCaptureFixture) -> None:
    async with serving(ScriptedBackend({"": ["confidential 42"]})) as served:
        turns: JsonValue = [{"role": "user", "content": "confidential question"}]
        for stream in (False, True):
            assert (await served.chat(messages=turns, stream=stream)).status_code == 200
        await served.chat(messages=turns, temperature="confidential temperature")
    assert "confidential" not in server_log(logs)
    requests = [record.__dict__["fields"] for record in logs.records if record.name == "branchwise.access"]
    assert [(fields["method"], fields["route"], fields["status"]) for fields in requests] == [
        ("POST", CHAT, 200),
        ("POST", CHAT, 200),
        ("POST", CHAT, 400),
    ]
