"""`connect`: one line for any server, and one line of error with the server's own words."""

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import branchwise as bw
from branchwise.backends.openai.server_errors import status_error
from tests.support.fake_server import FakeServer
from tests.support.openai_backends import ANSWER, OPENAI, TEXT, serve
from tests.support.threaded import InThread, ThreadedServer


def test_a_server_needs_its_address_alone() -> None:
    with serve() as server:
        backend = bw.connect(f"{server.url}/v1/")
        assert (backend.capabilities.model, backend.capabilities.token_in) == ("fake", True)
        assert bw.solve_sync("What is 6 times 7?", backend).answer == "42"


def test_all_arguments_reach_the_server() -> None:
    with serve(features=OPENAI) as server, serve(features=OPENAI) as replica:
        backend = bw.connect([server.url, replica.url], "gpt", "sk-1234", 9000)
        assert (backend.capabilities.model, backend.capabilities.context) == ("gpt", 9000)
        # The ports, which differ from run to run, decide which of the two gets the probes.
        headers, requests = server.headers + replica.headers, server.requests + replica.requests
        assert {each["authorization"] for each in headers} == {"Bearer sk-1234"}
        assert requests[-1]["model"] == "gpt"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "base_urls: contains 'localhost:8000'; use http://host:port"),
        ("", "base_urls: contains ''"),
        ([], "base_urls: is empty"),
        (8000, "base_url: "),
        ("http://127.0.0.1:1", "http://127.0.0.1:1 can't be reached"),
    ],
)
def test_an_invalid_address_is_named(url: str, words: str) -> None:
    with pytest.raises((bw.ConfigError, bw.BackendError)) as caught:
        bw.connect(url)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


class AppServer(InThread):
    """A server of any app."""

    def __init__(self, app: Starlette) -> None:
        self._server = ThreadedServer(app, socket.create_server(("127.0.0.1", 0)))


def page(request: Request) -> Response:
    return PlainTextResponse("<html>Welcome to\nnginx!</html>")


def no_model(request: Request) -> Response:
    return JSONResponse({"error": {"message": "The model 'gpt-9' does not exist", "code": "model_not_found"}}, 404)


def listed_models(request: Request) -> Response:
    return JSONResponse({"data": [{"id": "gpt-1"}, {"id": "gpt-2"}]})


def refused_key(request: Request) -> Response:
    return JSONResponse({"error": {"message": "Incorrect API key provided: sk-12***cret. Ask Jo."}}, 401)


@pytest.mark.parametrize(
    ("models", "chat", "words"),
    [
        (page, page, ("Welcome to nginx!", "check base_urls")),
        (refused_key, refused_key, ("Incorrect API key provided", "Ask Jo.", "set the key")),
        (listed_models, no_model, ("The model 'gpt-9' does not exist", "gpt-1, gpt-2")),
        (no_model, no_model, ("The model 'gpt-9' does not exist", "check base_urls and model")),
        (page, lambda request: PlainTextResponse("teapot", 418), ("teapot",)),
    ],
)
def test_a_refusal_shows_the_words_of_the_server(
    models: Callable[[Request], Response], chat: Callable[[Request], Response], words: tuple[str, ...]
) -> None:
    async def answer(request: Request) -> Response:
        return (models if request.url.path == "/v1/models" else chat)(request)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    with AppServer(app) as server, pytest.raises(bw.BackendError) as caught:
        bw.connect(server.url, "gpt-9", "sk-12secret")
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert "cret" not in message


@pytest.mark.parametrize("shown", ["abcd-efgh-ijkl", "abcd***", "ab****kl", "ijkl"])
def test_a_refused_key_is_not_shown_even_in_part(shown: str) -> None:
    body = f'{{"error": {{"message": "Wrong key {shown}, ask Jo."}}}}'.encode()
    error = status_error("http://x", 401, {}, body, "abcd-efgh-ijkl")
    assert "(Wrong key *** ask Jo.)" in str(error)


def test_path_consistency_needs_no_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
import branchwise as bw
backend = bw.connect(sys.argv[1])
result = bw.solve_sync("What is 6 times 7?", backend, strategy=bw.PathConsistency(paths=8, stop_at=None))
print(result.answer, len(result.paths), any(branch.prefix_chars for branch in result.paths))
"""
    with FakeServer(lambda prompt, before: ANSWER, TEXT) as server:
        done = subprocess.run([sys.executable, "-c", code, server.url], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("42 8 True\n", "")
