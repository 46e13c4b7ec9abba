"""Settings of the OpenAI backend, and its key."""

import pytest

from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.server_errors import status_error
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.core.errors import ConfigError
from tests.support.openai_backends import (
    serve,
    settings,
)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("base_urls", "http://localhost:8000"),
        ("base_urls", ()),
        ("base_urls", ("localhost:8000",)),
        ("base_urls", ("http://me:secret@localhost",)),
        ("base_urls", ("http://a/v1", "http://a/")),
        ("base_urls", ("http://a/v1?key=1",)),
        ("model", ""),
        ("api_key", ""),
        ("connect_timeout", 0.0),
        ("idle_timeout", float("inf")),
        ("retry_seconds", -1.0),
        ("retries", -1),
        ("concurrency", 0),
        ("context", 0),
        ("extra_body", {"stream": False}),
        ("tokens", "on"),
    ],
)
def test_invalid_settings_are_refused_by_name(field: str, given: object) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAISettings(**{"base_urls": ("http://localhost",), field: given})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host:1", "http://host:1/", "http://host:1/v1", "http://host:1/v1/"])
def test_an_address_may_end_in_v1(url: str) -> None:
    assert OpenAISettings((url,)).urls == ("http://host:1",)


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    given = OpenAISettings(("http://localhost",), api_key="sk-very-secret")
    assert "secret" not in repr(given)
    error = status_error("http://a", 400, {}, b'{"error": {"message": "bad key sk-very-secret"}}', "sk-very-secret")
    assert "secret" not in str(error)
    monkeypatch.setenv("SOME_KEY", "sk-other")
    with serve() as server:
        OpenAIBackend.load(settings(server, api_key="sk-very-secret"))
        assert {one["authorization"] for one in server.headers} == {"Bearer sk-very-secret"}
        server.reset()
        OpenAIBackend.load(settings(server, api_key_env="SOME_KEY"))
        assert {one["authorization"] for one in server.headers} == {"Bearer sk-other"}
        server.reset()
        OpenAIBackend.load(settings(server, api_key_env="NO_SUCH_KEY"))
        assert all("authorization" not in one for one in server.headers)
